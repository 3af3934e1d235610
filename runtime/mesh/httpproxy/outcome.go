package httpproxy

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"syscall"
	"time"
)

// Outcome tells how a request ended. It is valid only during the call it is handed to.
type Outcome struct {
	Method         string
	Upstream       *Upstream // where the last attempt went; nil: it got to none
	Tag            any       // what Route left in Head.Tag
	Attempts       int
	Status         int    // what the client was sent; 0: nothing
	Flag           string // why it did not go well: one of the Flag constants
	Local          bool   // the answer is the relay's own
	ByClient       bool   // the client went away or broke the rules
	Err            error  // nil: it went through
	Sent, Received int64  // bytes of bodies to and from the upstream
	Start          time.Time
	Duration       time.Duration
}

// Flags of an Outcome and of a Failure.
const (
	FlagNoRoute       = "no-route"       // Route refused
	FlagConnectFailed = "connect-failed" // no connection to the instance could be made
	FlagClosed        = "closed"         // it ended the connection before the answer was complete
	FlagReset         = "reset"          // it did so with a reset
	FlagTimeout       = "timeout"        // the time of the request, or of the attempt, is over
	FlagLimited       = "limited"        // a limit of the relay's was reached
	FlagProtocol      = "protocol"       // one side broke HTTP
	FlagStatus        = "status"         // it answered with a status that Again was asked about
)

// Failure is how an attempt failed.
type Failure struct {
	Flag string
	// Sent tells whether the instance's application may have seen any of the request.
	Sent bool
	// Reused tells that the connection had served another request before: its end may have been on its way.
	Reused bool
	Status int // of FlagStatus
	// Response is the head of the answer with that status.
	Response *Head
	Err      error

	Begun bool // the client has got some of the answer

	again bool // Again has been asked, and has said yes
}

// failed finds the cause of an error on an upstream connection.
func (c *conn) failed(err error, sent bool) *Failure {
	f := &Failure{Flag: FlagClosed, Sent: sent, Err: err}
	switch {
	case c.gone.Load():
		f.Err = errGone
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.Flag, f.Err = FlagTimeout, c.late()
	case err == errTooLarge:
		f.Flag, f.Err = FlagProtocol, fmt.Errorf("the head of its answer is larger than %d bytes", c.r.headBytes(c.r.ToSidecars))
	case err == errAnswer:
		f.Flag = FlagProtocol
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		f.Flag = FlagReset
	}
	return f
}

// late says which time is over.
func (c *conn) late() error {
	h := &c.req
	passed := time.Since(c.o.Start)
	switch {
	case h.Timeout > 0 && passed >= h.Timeout:
		return fmt.Errorf("no answer within %v: %w", h.Timeout, os.ErrDeadlineExceeded)
	case h.PerTry > 0 && passed >= h.PerTry && c.o.Status == 0:
		return fmt.Errorf("no answer to an attempt within %v: %w", h.PerTry, os.ErrDeadlineExceeded)
	case c.o.Status == 0:
		return fmt.Errorf("no answer after %v: %w", passed.Round(time.Millisecond), os.ErrDeadlineExceeded)
	}
	return fmt.Errorf("the answer stands still: %w", os.ErrDeadlineExceeded)
}

// answer is what the client is told of a failure.
func (f *Failure) answer(up *Upstream) *Error {
	e := &Error{Status: http.StatusBadGateway, Reason: ReasonLost, Metadata: map[string]string{"instance": up.Name}}
	switch f.Flag {
	case FlagConnectFailed:
		e.Status, e.Reason = http.StatusServiceUnavailable, ReasonConnect
		e.Text = fmt.Sprintf("no connection to %s: %v", up.Name, f.Err)
	case FlagTimeout:
		e.Status, e.Reason = http.StatusGatewayTimeout, ReasonTimeout
		e.Text = fmt.Sprintf("%s: %v", up.Name, f.Err)
	case FlagLimited:
		e.Status, e.Reason, e.RetryAfter = http.StatusTooManyRequests, ReasonBusy, time.Second
		e.Text = fmt.Sprintf("%s: %v", up.Name, f.Err)
	case FlagStatus: // it was to be tried again
		e.Status, e.Text = f.Status, fmt.Sprintf("%s answered %d, and the request's body has grown too large to be sent again", up.Name, f.Status)
	case FlagProtocol:
		e.Reason, e.Text = ReasonAnswer, fmt.Sprintf("%s: %v", up.Name, f.Err)
	default:
		e.Text = fmt.Sprintf("%s ended the connection before it answered: %v", up.Name, f.Err)
	}
	return e
}
