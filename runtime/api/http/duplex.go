package http

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
)

// duplex serves a method with a stream of requests: JSON texts one after the other, answered by lines, both at once, also over
// HTTP/1.1. The end of the body is the end of the requests.
func (h *Handler) duplex(w nethttp.ResponseWriter, r *nethttp.Request) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		err := fmt.Errorf("%w: content-encoding %.20q is not served for a stream: send none", components.ErrInvalid, encoding)
		writeError(w, nethttp.StatusUnsupportedMediaType, components.WithReason(err, ReasonContentType))
		return
	}
	if err := nethttp.NewResponseController(w).EnableFullDuplex(); err != nil {
		writeError(w, 0, err)
		return
	}
	in := &texts{from: capped{r: r.Body}, max: h.opts.MaxMessage}
	in.json = json.NewDecoder(&in.from)
	asStream(r, in, -1)
	// The transcoder wants HTTP/2 of clients of the Connect protocol, since few of them do both at once without; this connection does.
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	out := &lines{w: w, max: h.opts.MaxMessage, instead: in.wrong}
	h.transcoder.ServeHTTP(out, r)
	out.end()
}

// texts makes of JSON texts the messages of a Connect stream.
type texts struct {
	json    *json.Decoder
	from    capped
	max     int
	pending []byte
	err     error        // that it ended with
	fault   atomic.Value // of the client: an error
}

func (t *texts) Read(p []byte) (int, error) {
	if len(t.pending) == 0 && t.err == nil {
		if t.err = t.next(); t.err != nil && t.err != io.EOF {
			t.fault.Store(t.err)
		}
	}
	if len(t.pending) == 0 {
		return 0, t.err
	}
	n := copy(p, t.pending)
	t.pending = t.pending[n:]
	return n, nil
}

func (t *texts) next() error {
	t.from.left = t.max + 1
	var text json.RawMessage
	switch err := t.json.Decode(&text); {
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, errTooLarge) || err == nil && len(text) > t.max:
		return api.TooLarge("http-api", "message", t.max)
	case err != nil:
		return api.Malformed("a message is no JSON: " + err.Error())
	}
	t.pending = binary.BigEndian.AppendUint32(append(t.pending[:0], 0), uint32(len(text)))
	t.pending = append(t.pending, text...)
	return nil
}

func (t *texts) Close() error { return nil } // the server closes the body

// wrong is why no more could be read, if not for its end. It may be asked while it is read.
func (t *texts) wrong() error {
	err, _ := t.fault.Load().(error)
	return err
}

// capped reads so many bytes and no more, until it is told how many more.
type capped struct {
	r    io.Reader
	left int
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errTooLarge
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
