package http

import (
	"encoding/json"
	"errors"
	"fmt"
	nethttp "net/http"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/grpc/codes"
)

// plain passes answers on. It holds back errors, to say in JSON what the transcoder says in plain text, and better what
// grpc-go says by itself.
type plain struct {
	nethttp.ResponseWriter
	limit int
	code  int    // of an error
	text  []byte // of it
}

func (p *plain) WriteHeader(code int) {
	if code >= nethttp.StatusBadRequest {
		p.code = code
		return
	}
	p.ResponseWriter.WriteHeader(code)
}

func (p *plain) Write(b []byte) (int, error) {
	if p.code == 0 {
		return p.ResponseWriter.Write(b)
	}
	p.text = append(p.text, b...)
	return len(b), nil
}

// Unwrap is for http.ResponseController.
func (p *plain) Unwrap() nethttp.ResponseWriter { return p.ResponseWriter }

// Flush is for those that ask for an http.Flusher.
func (p *plain) Flush() {
	if p.code == 0 {
		nethttp.NewResponseController(p.ResponseWriter).Flush()
	}
}

func (p *plain) end() {
	if p.code != 0 {
		answerError(p.ResponseWriter, p.code, p.text, p.limit)
	}
}

// answerError answers what the transcoder would: a refusal of its own, or a method's error.
func answerError(w nethttp.ResponseWriter, code int, text []byte, limit int) {
	var e wireError
	if json.Unmarshal(text, &e) != nil || e.Code == "" { // the content type tells nothing: it may be the inner answer's
		refuse(w, code, strings.TrimSpace(string(text)), limit)
		return
	}
	if len(e.Details) == 0 {
		if err := fromEngine(e, limit); err != nil {
			code = 0
			if errors.Is(err, components.ErrExhausted) { // the request is too large, and stays so: 429 says that it may be sent again
				code = nethttp.StatusRequestEntityTooLarge
			}
			writeError(w, code, err)
			return
		}
	}
	writeJSON(w, code, text)
}

func fromEngine(e wireError, limit int) error {
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.Internal, codes.DeadlineExceeded} {
		if e.Code == codeName(code) {
			return api.FromEngine(code, e.Message, "http-api", limit)
		}
	}
	return nil
}

// refuse says why the transcoder takes a request for none.
func refuse(w nethttp.ResponseWriter, code int, why string, limit int) {
	switch code {
	case nethttp.StatusTooManyRequests: // a body that grew in decompression
		writeError(w, nethttp.StatusRequestEntityTooLarge, api.TooLarge("http-api", "request", limit))
	case nethttp.StatusUnsupportedMediaType:
		writeError(w, code, components.WithReason(fmt.Errorf("%w: %s", components.ErrInvalid, why), ReasonContentType))
	default:
		writeError(w, nethttp.StatusBadRequest, api.Malformed(why))
	}
}
