package httpproxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Error is an answer of the relay's own, and what Route and OnConn return to make one. The client gets it as JSON.
type Error struct {
	Status   int
	Reason   string // for programs
	Text     string // for people
	Metadata map[string]string
	// RetryAfter is how long a client should wait before it tries again; 0: it is not told.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return strconv.Itoa(e.Status) + " " + e.Text }

// Reasons of answers of the relay's own.
const (
	ReasonMalformed = "MALFORMED_REQUEST" // the request breaks the rules of HTTP/1.1, or would be understood in two ways
	ReasonTooLarge  = "HEADERS_TOO_LARGE" // the request's head is larger than the relay takes
	ReasonSlow      = "REQUEST_TOO_SLOW"  // the client has not sent its request in time
	ReasonConnect   = "CONNECT_FAILED"    // no connection to the instance could be made
	ReasonLost      = "CONNECTION_LOST"   // the instance ended the connection before its answer was complete
	ReasonAnswer    = "MALFORMED"         // the instance answered what is no HTTP/1.1
	ReasonTimeout   = "TIMEOUT"           // the time for the answer is over
	ReasonBusy      = "OVERLOADED"        // all connections to the instance that there may be are in use
	ReasonInternal  = "INTERNAL"
)

func malformed(text string) *Error { return &Error{Status: 400, Reason: ReasonMalformed, Text: text} }

var (
	errLine     = malformed("malformed start line")
	errTarget   = malformed("malformed request target")
	errField    = malformed("malformed header field")
	errCRLF     = malformed("a line does not end in CRLF")
	errHost     = malformed("missing, repeated or malformed Host")
	errLength   = malformed("repeated or malformed Content-Length")
	errTransfer = malformed("ambiguous Transfer-Encoding")
	errChunk    = malformed("malformed chunk")
	errVersion  = &Error{Status: http.StatusHTTPVersionNotSupported, Reason: ReasonMalformed, Text: "this version of HTTP is not supported: use HTTP/1.1"}
	errCoding   = &Error{Status: http.StatusNotImplemented, Reason: ReasonMalformed, Text: "this transfer coding is not supported: use chunked"}
	errExpect   = &Error{Status: http.StatusExpectationFailed, Reason: ReasonMalformed, Text: "this expectation is not supported: only 100-continue is"}
	errTooLarge = &Error{Status: http.StatusRequestHeaderFieldsTooLarge, Reason: ReasonTooLarge, Text: "the request's head is too large"}
	errSlowHead = &Error{Status: http.StatusRequestTimeout, Reason: ReasonSlow, Text: "the request's head has not come in time"}
	errSlowBody = &Error{Status: http.StatusRequestTimeout, Reason: ReasonSlow, Text: "the request's body has not come in time"}
)

var (
	errGone   = errors.New("the client is gone")
	errClosed = errors.New("the relay is closed")
	errExtra  = errors.New("the answer came before the request was read")
	errDead   = errors.New("the idle connection is dead")
	errAnswer = errors.New("the answer is no HTTP/1.1")
)

// Later is what Route returns when it cannot tell yet. Wait has resume called once, from any goroutine, when it is worth asking
// again, which does not count as an attempt; it does not block.
type Later struct {
	Wait func(resume func())
}

func (*Later) Error() string { return "the route is not known yet" }
