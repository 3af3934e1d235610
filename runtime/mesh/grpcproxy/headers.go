package grpcproxy

import (
	"crypto/tls"
	"net"
	"slices"
	"time"
)

// Headers is a request's (or response's) header list and what is known of its sender. It is valid only during the call
// it is handed to, and not safe for concurrent use.
type Headers struct {
	Fields  []Field
	Attempt int       // how many attempts there were before: 0 at first
	Last    *Upstream // where the attempt before failed
	Resumed bool      // Route had asked to be asked later, and this is later
	End     bool      // of a response: it ends with this list

	// Timeout is how long the request may take in all, counted from its arrival: what grpc-timeout says; 0: no limit.
	// Route may change it. PerTry, which Route may set, bounds this attempt alone, its wait for a connection included.
	// The upstream is told the smaller of what is left.
	Timeout time.Duration
	PerTry  time.Duration

	// Replay is how many bytes of the request are kept, until its response begins, to be sent once more if Again allows it. Route may set it
	// at the first attempt; 0: a request of which something was sent is not repeated.
	Replay int

	Conn    net.Conn // the downstream connection
	ConnTag any      // what OnConn said of it
	Tag     any      // the caller's; kept over attempts, goes to Outcome.Tag

	c     *conn // the downstream one
	s     *stream
	later *parking
}

// Get returns the first value of that (lower case) name, or nothing.
func (h *Headers) Get(name string) string {
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			return h.Fields[i].Value
		}
	}
	return ""
}

// Set replaces the first field of that (lower case) name, or adds one.
func (h *Headers) Set(name, value string) {
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			h.Fields[i] = newField(name, value)
			return
		}
	}
	h.Fields = append(h.Fields, newField(name, value))
}

// Del removes all fields of that (lower case) name.
func (h *Headers) Del(name string) {
	h.Fields = slices.DeleteFunc(h.Fields, func(f Field) bool { return f.Name == name })
}

// Path is the request's :path, which in gRPC is /service/method.
func (h *Headers) Path() string { return h.kind(kindPath) }

// Authority is the request's :authority.
func (h *Headers) Authority() string { return h.kind(kindAuthority) }

// TLS is the state of the downstream connection, its client certificates included; nil without TLS.
func (h *Headers) TLS() *tls.ConnectionState {
	if h.c == nil {
		return nil
	}
	return h.c.tls
}

func (h *Headers) kind(k kind) string {
	for i := range h.Fields {
		if h.Fields[i].kind == k {
			return h.Fields[i].Value
		}
	}
	return ""
}
