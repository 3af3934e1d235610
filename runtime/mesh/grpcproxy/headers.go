package grpcproxy

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Headers is a request's (or response's) header list. It is valid only during the call it is handed to.
type Headers struct {
	Fields  []Field
	Attempt int           // 0 at first
	Last    *Upstream     // where the attempt before failed
	Timeout time.Duration // from grpc-timeout; 0: none
	Conn    net.Conn      // the downstream connection: its addresses and TLS state
	Tag     any           // the caller's; goes to Outcome.Tag
}

func (h *Headers) Get(name string) string {
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			return h.Fields[i].Value
		}
	}
	return ""
}

// Set replaces the first field of that name, or adds one.
func (h *Headers) Set(name, value string) {
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			h.Fields[i] = newField(name, value)
			return
		}
	}
	h.Fields = append(h.Fields, newField(name, value))
}

func (h *Headers) Del(name string) {
	h.Fields = slices.DeleteFunc(h.Fields, func(f Field) bool { return f.Name == name })
}

func (h *Headers) kind(k kind) string {
	for i := range h.Fields {
		if h.Fields[i].kind == k {
			return h.Fields[i].Value
		}
	}
	return ""
}

func (h *Headers) Path() string { return h.kind(kindPath) }

func (h *Headers) Authority() string { return h.kind(kindAuthority) }

func parseTimeout(s string) time.Duration {
	if len(s) < 2 || len(s) > 9 {
		return 0
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	i := strings.IndexByte("numSMH", s[len(s)-1])
	if err != nil || i < 0 {
		return 0
	}
	d := [...]time.Duration{1, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour}[i] * time.Duration(n)
	return max(d, 1)
}

func formatTimeout(d time.Duration) string {
	d = max(d, 1)
	switch {
	case d < 100*time.Second:
		return strconv.FormatInt(int64((d+999)/1000), 10) + "u"
	case d < 24*time.Hour:
		return strconv.FormatInt(int64(d/time.Millisecond), 10) + "m"
	}
	return strconv.FormatInt(int64(d/time.Minute), 10) + "M"
}
