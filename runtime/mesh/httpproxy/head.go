package httpproxy

import (
	"bytes"
	"net"
	"slices"
	"time"
)

// Head is the parsed start of a request or a response. Its byte slices lie in the read buffer: they are valid only during the
// call it is handed to. What is passed on is written anew from it, never copied raw.
type Head struct {
	Method string
	Scheme []byte // of an absolute-form target, else nil
	Host   []byte // of the target, else of the Host field
	Target []byte // origin-form, "*", or host:port for CONNECT
	Fields []Field

	Conn    net.Conn  // the client's
	ConnTag any       // what OnConn said of it
	Start   time.Time // when the head was there
	Attempt int       // 0 at first
	Last    *Upstream // where the attempt before failed
	Tag     any       // the caller's; goes to Outcome.Tag

	// Set by Route. Timeout bounds the request from its begin until its answer is complete; of an event stream, an upgrade
	// and CONNECT, until the answer begins. PerTry bounds each attempt until its answer begins. 0: no bound.
	Timeout, PerTry time.Duration

	most            int // fields
	status          int // of a response
	reason          []byte
	v10             bool
	hasHost         bool
	chunked         bool
	length          int64 // -1: no Content-Length
	close, keep     bool  // as Connection says
	upgrade         []byte
	expect, te, tra bool // 100-continue; TE: trailers; a Trailer field
}

// Field is a header field.
type Field struct {
	Name, Value []byte
	kind        kind
	drop        bool // named by Connection
}

type kind byte

const (
	kindPlain kind = iota
	kindHop        // dropped
	kindHost
	kindLength
	kindTransfer
	kindConnection
	kindTE
	kindTrailer
	kindUpgrade
	kindExpect
)

func (h *Head) reset() {
	*h = Head{Fields: h.Fields[:0], length: -1, Conn: h.Conn, ConnTag: h.ConnTag, most: h.most}
}

// settle moves the head to memory of its own: its buffer is about to be read into.
func (h *Head) settle() {
	n := len(h.Scheme) + len(h.Host) + len(h.Target) + len(h.upgrade)
	for i := range h.Fields {
		n += len(h.Fields[i].Name) + len(h.Fields[i].Value)
	}
	room := make([]byte, 0, n)
	move := func(b *[]byte) {
		if *b != nil {
			at := len(room)
			room = append(room, *b...)
			*b = room[at:len(room):len(room)]
		}
	}
	for _, b := range []*[]byte{&h.Scheme, &h.Host, &h.Target, &h.upgrade} {
		move(b)
	}
	for i := range h.Fields {
		move(&h.Fields[i].Name)
		move(&h.Fields[i].Value)
	}
}

// Absolute tells whether the target named the scheme and the host, as clients of a proxy do.
func (h *Head) Absolute() bool { return h.Scheme != nil }

// Upgrade is the protocols that a client wants to change to; nil: none.
func (h *Head) Upgrade() []byte { return h.upgrade }

// Get returns the first field of that name (lower case), nil if there is none.
func (h *Head) Get(name string) []byte {
	for i := range h.Fields {
		if fold(h.Fields[i].Name, name) {
			return h.Fields[i].Value
		}
	}
	return nil
}

// Set replaces all fields of that name. Fields of framing and of the connection cannot be set.
func (h *Head) Set(name, value string) {
	h.Del(name)
	h.Add([]byte(name), []byte(value))
}

// Add adds a field to those there are. The slices are kept until the request has ended. Like Set, it adds nothing that would be
// malformed.
func (h *Head) Add(name, value []byte) {
	if k, odd := kindOf(name); k == kindPlain && !odd && len(name) > 0 && all(name, isToken) && all(value, isText) {
		h.Fields = append(h.Fields, Field{Name: name, Value: value})
	}
}

// Del removes the fields of that name, but none of framing and of the connection.
func (h *Head) Del(name string) {
	h.Fields = slices.DeleteFunc(h.Fields, func(f Field) bool { return f.kind == kindPlain && bytes.EqualFold(f.Name, []byte(name)) })
}

// DelPrefix removes the fields whose names begin with prefix, which is lower case; an underscore counts as a hyphen, since some
// servers take one for the other.
func (h *Head) DelPrefix(prefix string) {
	n := 0
	for i := range h.Fields {
		if f := &h.Fields[i]; f.kind != kindPlain || !begins(f.Name, prefix) {
			if n != i {
				h.Fields[n] = *f
			}
			n++
		}
	}
	h.Fields = h.Fields[:n]
}

func begins(name []byte, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c == '_' {
			c = '-'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// Idempotent tells whether to repeat the request does no harm (RFC 9110 section 9.2.2).
func (h *Head) Idempotent() bool {
	switch h.Method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}

func (h *Head) persistent() bool { return !h.close && (!h.v10 || h.keep) }

var kinds = [32][]struct {
	name string
	k    kind
}{
	2: {{"te", kindTE}}, 4: {{"host", kindHost}}, 6: {{"expect", kindExpect}}, 7: {{"trailer", kindTrailer}, {"upgrade", kindUpgrade}},
	10: {{"connection", kindConnection}, {"keep-alive", kindHop}}, 14: {{"content-length", kindLength}},
	16: {{"proxy-connection", kindHop}}, 17: {{"transfer-encoding", kindTransfer}}, 18: {{"proxy-authenticate", kindHop}},
	19: {{"proxy-authorization", kindHop}},
}

// kindOf also says if the name is one of a special field but for underscores.
func kindOf(name []byte) (kind, bool) {
	if len(name) >= len(kinds) {
		return kindPlain, false
	}
next:
	for i := range kinds[len(name)] {
		e := &kinds[len(name)][i]
		odd := false
		for j := 0; j < len(name); j++ {
			c := name[j]
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			if c == '_' {
				c, odd = '-', true
			}
			if c != e.name[j] {
				continue next
			}
		}
		return e.k, odd
	}
	return kindPlain, false
}

// fold says if b is s, which is lower case.
func fold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}
