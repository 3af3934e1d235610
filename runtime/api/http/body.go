package http

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
)

const (
	bodyTime   = time.Minute     // for a request's body
	unreadTime = 5 * time.Second // for what comes of a body that nobody wants, so that its client reads the answer
	drainBytes = 256 << 20       // read of a body that is refused, so that a client which writes all before it reads sees the answer
)

// body reads a request's body whole, as all methods here need it, and decompresses it; it has limit bytes at most. leave gives its
// bytes back to the budget. code is the HTTP status of an error; 0: the one that belongs to it.
func (h *Handler) body(r *nethttp.Request, limit int) (body []byte, leave func(), code int, err error) {
	n := min(int64(limit), h.opts.Budget.Limit())
	if r.ContentLength >= 0 && r.Header.Get("Content-Encoding") == "" {
		n = min(int64(limit), r.ContentLength)
	} else { // it is not known how large it will be: no more than it has taken of the budget
		limit = int(n)
	}
	leave = func() { h.opts.Budget.Leave(n) }
	if err = h.opts.Budget.Enter(n); err != nil {
		return nil, leave, 0, err
	}
	if body, err = h.read(r.Body, limit); err != nil {
		return nil, leave, statusOf(err), h.explain(err, limit)
	}
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		body, err = h.gunzip(body, limit)
	default:
		err = fmt.Errorf("%w: content-encoding %.20q is not served here: send gzip or none", components.ErrInvalid, encoding)
		return nil, leave, nethttp.StatusUnsupportedMediaType, components.WithReason(err, ReasonContentType)
	}
	r.Header.Del("Content-Encoding")
	spare := n - int64(len(body))
	h.opts.Budget.Leave(spare)
	n -= spare
	return body, leave, statusOf(err), h.explain(err, limit)
}

// bodyLimit is how many bytes the body of a request may have, decompressed.
func (h *Handler) bodyLimit(contentType string) int {
	switch contentType {
	case typeJSON, typeStreamJSON:
		return api.TextLimit(h.opts.MaxMessage)
	}
	return h.opts.MaxMessage
}

var errTooLarge = errors.New("too large")

// limited is all of in, or errTooLarge.
func limited(in io.Reader, limit int) ([]byte, error) {
	all, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err == nil && len(all) > limit {
		err = errTooLarge
	}
	return all, err
}

func (h *Handler) read(in io.Reader, limit int) ([]byte, error) {
	body, err := limited(in, limit)
	if err == errTooLarge {
		if _, err = io.CopyN(io.Discard, in, drainBytes); err == nil || err == io.EOF {
			return nil, errTooLarge
		}
	}
	if err != nil {
		return nil, api.Malformed("the body ends early: " + err.Error())
	}
	return body, nil
}

func (h *Handler) gunzip(body []byte, limit int) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err == nil {
		body, err = limited(z, limit)
	}
	if err != nil && err != errTooLarge {
		err = api.Malformed("the body is not gzip: " + err.Error())
	}
	return body, err
}

func statusOf(err error) int {
	if err == errTooLarge {
		return nethttp.StatusRequestEntityTooLarge
	}
	return 0
}

func (h *Handler) explain(err error, limit int) error {
	if err == errTooLarge {
		if limit > h.opts.MaxMessage {
			return api.TextTooLarge("http-api", "request", h.opts.MaxMessage)
		}
		return api.TooLarge("http-api", "body of the request", h.opts.MaxMessage)
	}
	return err
}
