package grpcproxy

import (
	"strconv"
	"strings"
	"time"
)

// Outcome tells how a request ended.
type Outcome struct {
	Path, Authority string
	Upstream        *Upstream // nil: it got to none
	Tag             any
	Attempts        int
	Status          int    // grpc-status; -1: it ended without one
	Reset           uint32 // the RST_STREAM code it ended with, if it did
	ByClient        bool   // the client reset it or went away
	Local           bool   // the answer is the relay's, not the upstream's
	Sent, Received  int64  // DATA bytes to and from the upstream
	Start           time.Time
	Duration        time.Duration
}

// Error is an answer of the relay's own.
type Error struct {
	Code    int // a gRPC status code
	Message string
}

func (e *Error) Error() string { return "grpc status " + strconv.Itoa(e.Code) + ": " + e.Message }

const (
	grpcDeadline    = 4
	grpcExhausted   = 8
	grpcInternal    = 13
	grpcUnavailable = 14
)

// percentEncode is the form of grpc-message.
func percentEncode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
