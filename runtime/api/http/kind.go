package http

import (
	"fmt"
	nethttp "net/http"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
)

// kind passes answers on, and makes JSON of the transcoder's own refusals, which are plain text.
type kind struct {
	nethttp.ResponseWriter
	limit int
	code  int    // of a refusal
	text  []byte // of it
}

func (k *kind) WriteHeader(code int) {
	if code >= nethttp.StatusBadRequest && strings.HasPrefix(k.Header().Get("Content-Type"), "text/plain") {
		k.code = code
		return
	}
	k.ResponseWriter.WriteHeader(code)
}

func (k *kind) Write(p []byte) (int, error) {
	if k.code == 0 {
		return k.ResponseWriter.Write(p)
	}
	k.text = append(k.text, p...)
	return len(p), nil
}

// Unwrap is for http.ResponseController.
func (k *kind) Unwrap() nethttp.ResponseWriter { return k.ResponseWriter }

// Flush is for those that ask for an http.Flusher.
func (k *kind) Flush() {
	if k.code == 0 {
		nethttp.NewResponseController(k.ResponseWriter).Flush()
	}
}

func (k *kind) end() {
	if k.code != 0 {
		refused(k.ResponseWriter, k.code, k.text, k.limit)
	}
}

// refused answers what the transcoder would not take. All that is left of sizes then is a body that grew in decompression.
func refused(w nethttp.ResponseWriter, code int, text []byte, limit int) {
	why := strings.TrimSpace(string(text))
	switch code {
	case nethttp.StatusTooManyRequests:
		writeError(w, nethttp.StatusRequestEntityTooLarge, api.TooLarge("http-api", "body of the request", limit))
	case nethttp.StatusUnsupportedMediaType:
		writeError(w, code, components.WithReason(fmt.Errorf("%w: %s", components.ErrInvalid, why), ReasonContentType))
	case nethttp.StatusNotFound:
		writeError(w, code, components.WithReason(fmt.Errorf("%w: %s", components.ErrNotFound, why), ReasonUnknownPath))
	default:
		writeError(w, code, components.WithReason(fmt.Errorf("%w: %s", components.ErrInvalid, why), ReasonMalformedRequest))
	}
}
