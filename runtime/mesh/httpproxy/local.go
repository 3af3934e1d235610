package httpproxy

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

const lastWords = time.Second // for an answer to reach a client that is hung up on

// local answers in the upstream's stead, and says if the client connection goes on.
func (c *conn) local(err error, flag string) (keep bool) {
	if c.gone.Load() {
		c.o.ByClient, c.o.Err = true, errGone
		return false
	}
	var own *Error
	if !errors.As(err, &own) {
		own = &Error{Status: http.StatusBadGateway, Reason: ReasonInternal, Text: err.Error()}
	}
	e := *own
	lines := ""
	if c.r.Answer != nil {
		lines = c.r.Answer(&c.req, &e)
	}
	c.disarm()
	keep = c.req.persistent() && c.in.done && !c.r.leaving.Load() && !c.r.closed.Load()
	c.o.Status, c.o.Local, c.o.Err, c.o.Flag = e.Status, true, err, flag
	b := e.append((*c.scratch)[:0], &c.req, lines, keep)
	c.nc.SetDeadline(time.Now().Add(lastWords)) // a client that reads nothing is not waited for
	*c.scratch = b[:0]
	if _, err := c.nc.Write(b); err != nil {
		return false
	}
	if keep {
		c.nc.SetDeadline(time.Time{})
	} else {
		c.hangUp()
	}
	return keep
}

// append writes an error as an answer.
func (e *Error) append(b []byte, request *Head, lines string, keep bool) []byte {
	content := e.json()
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(e.Status), 10)
	b = append(append(append(b, ' '), http.StatusText(e.Status)...), "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = append(strconv.AppendInt(b, int64(len(content)), 10), "\r\n"...)
	if e.RetryAfter > 0 { // whole seconds (RFC 9110 section 10.2.3)
		b = append(strconv.AppendInt(append(b, "Retry-After: "...), int64((e.RetryAfter+time.Second-1)/time.Second), 10), "\r\n"...)
	}
	b = append(b, lines...)
	if !keep {
		b = append(b, "Connection: close\r\n"...)
	} else if request.v10 {
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	b = append(b, "\r\n"...)
	if request.Method != "HEAD" {
		b = append(b, content...)
	}
	return b
}

func (e *Error) json() []byte {
	b, err := json.Marshal(struct {
		Reason   string            `json:"reason"`
		Message  string            `json:"message"`
		Metadata map[string]string `json:"metadata,omitempty"`
	}{e.Reason, e.Text, e.Metadata})
	if err != nil { // cannot be: strings alone
		return nil
	}
	return append(b, '\n')
}

// hangUp closes so that what was written last still arrives: bytes that come in later would destroy it.
func (c *conn) hangUp() {
	w, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lastWords))
	io.Copy(io.Discard, io.LimitReader(c.nc, 4<<20))
}
