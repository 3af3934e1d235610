package http

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	nethttp "net/http"
)

const (
	envelopeSize = 5 // flags and length
	flagEnd      = 2
)

// enveloped makes of a JSON body the one message of a Connect stream.
func enveloped(r *nethttp.Request, body []byte) *nethttp.Request {
	framed := make([]byte, envelopeSize, envelopeSize+len(body))
	binary.BigEndian.PutUint32(framed[1:], uint32(len(body)))
	framed = append(framed, body...)
	r.Header.Set("Content-Type", typeStreamJSON)
	r.Header.Del("Connect-Accept-Encoding")
	r.Header.Del("Accept-Encoding")
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(framed)), int64(len(framed))
	return r
}

// lines makes of a Connect stream of JSON one line for each message; an error is the last line, or the whole answer, with its HTTP
// status, if there was no message before it.
type lines struct {
	w       nethttp.ResponseWriter
	max     int
	code    int
	pending []byte
	begun   bool
	failed  error
}

func (l *lines) Header() nethttp.Header { return l.w.Header() }

// WriteHeader waits for what comes first, unless the transcoder refuses the request.
func (l *lines) WriteHeader(code int) { l.code = code }

func (l *lines) Write(p []byte) (int, error) {
	if l.failed != nil {
		return 0, l.failed
	}
	l.pending = append(l.pending, p...)
	if l.code != 0 && l.code != nethttp.StatusOK {
		return len(p), nil // text that end makes an error of
	}
	for len(l.pending) >= envelopeSize {
		n := int(binary.BigEndian.Uint32(l.pending[1:]))
		if len(l.pending) < envelopeSize+n {
			break
		}
		if l.failed = l.message(l.pending[0], l.pending[envelopeSize:envelopeSize+n]); l.failed != nil {
			return 0, l.failed
		}
		l.pending = l.pending[:copy(l.pending, l.pending[envelopeSize+n:])]
	}
	return len(p), nil
}

func (l *lines) message(flags byte, text []byte) error {
	if flags&flagEnd != 0 {
		var end struct {
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(text, &end); err != nil || end.Error == nil {
			return nil
		}
		if !l.begun {
			var e wireError
			if err := json.Unmarshal(end.Error, &e); err != nil {
				return err
			}
			l.begun = true
			answerError(l.w, httpStatus(e.Code), end.Error, l.max)
			return nil
		}
		text = append(append([]byte(`{"error":`), end.Error...), '}')
	}
	l.begin()
	if _, err := l.w.Write(append(bytes.TrimSpace(text), '\n')); err != nil {
		return err
	}
	return l.flush()
}

func (l *lines) begin() {
	if l.begun {
		return
	}
	l.begun = true
	l.w.Header().Set("Content-Type", typeLines)
	l.w.WriteHeader(nethttp.StatusOK)
}

func (l *lines) flush() error { return nethttp.NewResponseController(l.w).Flush() }

// Flush is the transcoder's wish: lines are flushed as they are written.
func (l *lines) Flush() {}

// end answers what has not been answered yet.
func (l *lines) end() {
	switch {
	case l.begun:
	case l.code != 0 && l.code != nethttp.StatusOK:
		answerError(l.w, l.code, l.pending, l.max)
	default:
		l.begin()
	}
}
