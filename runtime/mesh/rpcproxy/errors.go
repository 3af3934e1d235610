package rpcproxy

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Error is an answer of the loop's own.
type Error struct {
	Flag    string // one of the Flag constants
	Code    int    // a gRPC status code
	Reason  components.Reason
	Message string
	Sent    bool // the request may have reached the instance's application
}

// Error is the text that callers get, which is never empty.
func (e *Error) Error() string {
	switch {
	case e.Message == "" && e.Reason == "":
		return "the sidecar refused the call without a reason"
	case e.Reason == "":
		return e.Message
	}
	return string(e.Reason) + ": " + e.Message
}

// HeaderError is the name of what a sidecar tells another of an error of its own, as Pack writes it.
const HeaderError = "outrigger-error"

// Pack writes e for another sidecar: CODE SENT FLAG REASON MESSAGE.
func (e *Error) Pack() string {
	return fmt.Sprintf("%d %t %s %s %s", e.Code, e.Sent, cmp.Or(e.Flag, "-"), cmp.Or(string(e.Reason), "-"), e.Message)
}

// Unpack reads what Pack has written; nil if it has not.
func Unpack(text string) *Error {
	part := strings.SplitN(text, " ", 5)
	if len(part) < 5 {
		return nil
	}
	code, err := strconv.Atoi(part[0])
	sent, err2 := strconv.ParseBool(part[1])
	if err != nil || err2 != nil || code <= 0 || code > maxCode {
		return nil
	}
	return &Error{Code: code, Sent: sent, Flag: strings.TrimPrefix(part[2], "-"), Reason: components.Reason(strings.TrimPrefix(part[3], "-")), Message: part[4]}
}

const maxCode = 16 // of gRPC

// Flags of an outcome and of an attempt, the same as the other transports have. An empty flag says that the upstream answered.
const (
	FlagNoRoute       = "no-route"       // Route refused
	FlagConnectFailed = "connect-failed" // no connection to the instance could be made
	FlagClosed        = "closed"         // its connection ended before the answer came
	FlagTimeout       = "timeout"        // the deadline, or that of the attempt, passed
	FlagLimited       = "limited"        // a limit of the loop's was reached
	FlagProtocol      = "protocol"       // the request cannot be read
	FlagRefused       = "refused"        // the instance's server did not handle the request, and says so
)

// Reasons of the loop's own answers.
const (
	ReasonConnectFailed  components.Reason = "CONNECT_FAILED"
	ReasonConnectionLost components.Reason = "CONNECTION_LOST"
	ReasonUpstreamClosed components.Reason = "UPSTREAM_CLOSED"
	ReasonTimeout        components.Reason = "TIMEOUT"
	ReasonOverloaded     components.Reason = "OVERLOADED"
	ReasonMalformed      components.Reason = "MALFORMED"
	ReasonNotHere        components.Reason = "SERVICE_NOT_HERE" // what an inbound sidecar says, too
)

// The gRPC status codes that the loop answers with.
const (
	codeCancelled   = 1
	codeInvalid     = 3
	codeDeadline    = 4
	codeNotFound    = 5
	codeExhausted   = 8
	codeInternal    = 13
	codeUnavailable = 14
)

var (
	errFrozen    = errors.New("it did not answer a heartbeat")
	errSlow      = errors.New("a frame did not become whole in time")
	errTooLarge  = errors.New("a frame is larger than is allowed")
	errUnread    = errors.New("it does not read what it is sent")
	errClosed    = errors.New("the relay is closed")
	errNotServed = errors.New("a server sent a request")
)

// ErrLater is what Route answers when a function of Call.Later will be called.
var ErrLater = errors.New("the route is not known yet")

// Outcome tells how a call ended.
type Outcome struct {
	Call           *Call
	Upstream       *Upstream // where the last attempt went; nil: it got to none
	Attempts       int
	Code           int    // a gRPC status code
	Status         int    // of the protocol's own; -1: there was no answer of the upstream
	Flag           string // "" if it went well as far as the loop can tell
	ByClient       bool   // the client went away
	Sent, Received int    // bytes to and from the upstream
	Start          time.Time
	Duration       time.Duration
}
