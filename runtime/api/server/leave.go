package server

import "github.com/outrigger-mesh/outrigger/runtime/api/http"

// Leave has each HTTP client close its connection after the next answer, and open another one, which finds whoever accepts then.
// gRPC has a message for it, which Shutdown sends; HTTP/1.1 has not: a connection that is closed while a request is on its way
// fails it.
func (s *Server) Leave() { s.http.Handler.(*http.Handler).Leave() }
