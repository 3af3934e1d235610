package grpcproxy

import (
	"time"
)

// Outcome tells how a request ended. It is valid only during the call it is handed to.
type Outcome struct {
	Path, Authority string
	Upstream        *Upstream // where the last attempt went; nil: it got to none
	Tag             any       // what Route left in Headers.Tag
	ConnTag         any       // what OnConn said of the downstream connection
	Attempts        int
	Status          int    // grpc-status; -1: it ended without one
	Flag            string // why it did not go well, as far as the relay can tell: one of the Flag constants
	Err             *Error // the relay's own answer, if Local and an error
	Reset           uint32 // the RST_STREAM code it ended with, if it did
	ByClient        bool   // the client reset it or went away
	Local           bool   // the answer is the relay's, not the upstream's
	Sent, Received  int64  // DATA bytes to and from the upstream
	Start           time.Time
	Duration        time.Duration
}

// Flags of an Outcome and of an attempt. An empty flag says that the upstream answered, whatever it said.
const (
	FlagNoRoute       = "no-route"       // Route refused
	FlagConnectFailed = "connect-failed" // no connection to the instance could be made
	FlagClosed        = "closed"         // its connection ended before the answer did, or the instance was taken away
	FlagRefused       = "refused"        // it answered REFUSED_STREAM, or left with GOAWAY before it had begun
	FlagReset         = "reset"          // it ended the stream with another RST_STREAM
	FlagTimeout       = "timeout"        // the deadline, or that of the attempt, passed
	FlagLimited       = "limited"        // a limit of the relay's was reached
	FlagProtocol      = "protocol"       // one side broke HTTP/2 or gRPC
	FlagDenied        = "denied"         // OnConn did not let the connection in
)
