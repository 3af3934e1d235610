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
	bodyTime   = time.Minute // for a request's body
	drainBytes = 256 << 20   // read of a body that is refused, so that a client which writes all before it reads sees the answer
)

// body reads a request's body whole, as all methods here need it, and decompresses it. leave gives its bytes back to the
// budget. code is the HTTP status of an error; 0: the one that belongs to it.
func (h *Handler) body(r *nethttp.Request) (body []byte, leave func(), code int, err error) {
	n := int64(h.opts.MaxMessage)
	if r.ContentLength >= 0 && r.Header.Get("Content-Encoding") == "" { // else it is not known how large it will be
		n = min(n, r.ContentLength)
	}
	leave = func() { h.opts.Budget.Leave(n) }
	if err = h.opts.Budget.Enter(n); err != nil {
		return nil, leave, 0, err
	}
	if body, err = h.read(r.Body); err != nil {
		return nil, leave, statusOf(err), h.explain(err)
	}
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		body, err = h.gunzip(body)
	default:
		err = fmt.Errorf("%w: content-encoding %.20q is not served here: send gzip or none", components.ErrInvalid, encoding)
		return nil, leave, nethttp.StatusUnsupportedMediaType, components.WithReason(err, ReasonContentType)
	}
	r.Header.Del("Content-Encoding")
	spare := n - int64(len(body))
	h.opts.Budget.Leave(spare)
	n -= spare
	return body, leave, statusOf(err), h.explain(err)
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

func (h *Handler) read(in io.Reader) ([]byte, error) {
	body, err := limited(in, h.opts.MaxMessage)
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

func (h *Handler) gunzip(body []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err == nil {
		body, err = limited(z, h.opts.MaxMessage)
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

func (h *Handler) explain(err error) error {
	if err == errTooLarge {
		return api.TooLarge("http-api", "body of the request", h.opts.MaxMessage)
	}
	return err
}
