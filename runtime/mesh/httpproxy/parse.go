package httpproxy

import (
	"bytes"
	"strconv"
)

const (
	maxFields = 128
	maxTokens = 32 // in Connection

	moreFields, moreBytes = 16, 2 << 10 // that a sidecar may have added to a head
)

// headFields is how many a head may have that comes from a sidecar, or does not.
func headFields(sidecar bool) int {
	if sidecar {
		return maxFields + moreFields
	}
	return maxFields
}

// headBytes is how long such a head may be.
func (r *Relay) headBytes(sidecar bool) int {
	if sidecar {
		return r.MaxHead + moreBytes
	}
	return r.MaxHead
}

const (
	isToken = 1 << iota
	isText  // in a field value
	isURI   // in a target
	isHost
)

var class = func() (is [256]byte) {
	for c := range 256 {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if alnum || c > 0 && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0 {
			is[c] |= isToken
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			is[c] |= isText
		}
		if c > ' ' && c < 0x7f && c != '#' {
			is[c] |= isURI
		}
		if alnum || c > 0 && bytes.IndexByte([]byte("-._~%!$&'()*+;=:[]"), byte(c)) >= 0 {
			is[c] |= isHost
		}
	}
	return is
}()

func all(b []byte, is byte) bool {
	for _, c := range b {
		if class[c]&is == 0 {
			return false
		}
	}
	return true
}

// headEnd returns where the empty line ends that ends a head, 0 if it is not there yet. It goes on from *at.
func headEnd(b []byte, at *int) (int, error) {
	for {
		i := bytes.IndexByte(b[*at:], '\n')
		if i < 0 {
			return 0, nil
		}
		if i == 0 || b[*at+i-1] != '\r' {
			return 0, errCRLF
		}
		*at += i + 1
		if i == 1 {
			return *at, nil
		}
	}
}

// h2c is HTTP/2 in the place of HTTP/1.1: a tunnel of requests that the relay would see nothing of.
var h2c = []byte("h2c")

var methods = [...]string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"}

// parseRequest reads a head that headEnd has found the end of.
func (h *Head) parseRequest(b []byte) error {
	h.reset()
	i := 0
	for class[b[i]]&isToken != 0 {
		i++
	}
	if i == 0 || i > 32 || b[i] != ' ' {
		return errLine
	}
	for _, m := range methods {
		if m == string(b[:i]) {
			h.Method = m
		}
	}
	if h.Method == "" {
		h.Method = string(b[:i])
	}
	j := i + 1
	for class[b[j]]&isURI != 0 {
		j++
	}
	if b[j] != ' ' || j == i+1 {
		return errTarget
	}
	h.Target = b[i+1 : j]
	if b = b[j+1:]; len(b) < 10 || string(b[:7]) != "HTTP/1." {
		if len(b) > 5 && string(b[:5]) == "HTTP/" {
			return errVersion
		}
		return errLine
	}
	if string(b[7:10]) != "1\r\n" {
		if h.v10 = true; string(b[7:10]) != "0\r\n" {
			return errVersion
		}
	}
	if err := h.parseFields(b[10:], true); err != nil {
		return err
	}
	if !h.hasHost && !h.v10 {
		return errHost
	}
	if h.chunked && h.v10 {
		return errTransfer
	}
	if h.Method == "TRACE" && (h.chunked || h.length > 0) {
		return errLength
	}
	if h.v10 || h.expect && !h.chunked && h.length <= 0 {
		h.expect = false
	}
	if h.upgrade != nil && (h.v10 || h.chunked || h.length > 0 || offered(h.upgrade, h2c)) {
		h.upgrade = nil
	}
	return h.target()
}

func (h *Head) target() error {
	t := h.Target
	if h.Method == "CONNECT" {
		colon := bytes.LastIndexByte(t, ':')
		if colon < 1 || !all(t, isHost) || h.chunked || h.length > 0 {
			return errTarget
		}
		if p, err := strconv.ParseUint(string(t[colon+1:]), 10, 16); err != nil || p == 0 {
			return errTarget
		}
		h.Host = t
		return nil
	}
	if t[0] == '/' {
		return nil
	}
	if len(t) == 1 && t[0] == '*' && h.Method == "OPTIONS" {
		return nil
	}
	s := bytes.Index(t, []byte("://"))
	if s < 0 || !fold(t[:s], "http") && !fold(t[:s], "https") {
		return errTarget
	}
	h.Scheme, t = t[:s], t[s+3:]
	end := bytes.IndexAny(t, "/?")
	if end < 0 {
		end = len(t)
	}
	h.Host, h.Target = t[:end], t[end:]
	if end == 0 || !all(h.Host, isHost) {
		return errTarget
	}
	if len(h.Target) == 0 {
		if h.Target = []byte("/"); h.Method == "OPTIONS" {
			h.Target = []byte("*")
		}
	} else if h.Target[0] == '?' {
		h.Target = append([]byte("/"), h.Target...)
	}
	return nil
}

func (h *Head) parseResponse(b []byte) error {
	h.reset()
	if len(b) < 14 || string(b[:7]) != "HTTP/1." || b[7] != '0' && b[7] != '1' || b[8] != ' ' {
		return errLine
	}
	h.v10 = b[7] == '0'
	for _, c := range b[9:12] {
		if c < '0' || c > '9' {
			return errLine
		}
		h.status = h.status*10 + int(c-'0')
	}
	b = b[12:]
	if h.status < 100 || b[0] != ' ' && b[0] != '\r' {
		return errLine
	}
	i := 0
	for class[b[i]]&isText != 0 {
		i++
	}
	if b[i] != '\r' || b[i+1] != '\n' {
		return errLine
	}
	h.reason = bytes.TrimSpace(b[:i])
	if err := h.parseFields(b[i+2:], false); err != nil {
		return err
	}
	if h.chunked && h.v10 {
		return errTransfer
	}
	return nil
}

// parseFields reads the lines up to and with the empty one.
func (h *Head) parseFields(b []byte, request bool) error {
	connection, transfer := false, false
	for len(b) > 2 {
		i := 0
		for class[b[i]]&isToken != 0 {
			i++
		}
		if i == 0 || b[i] != ':' || len(h.Fields) == h.most {
			return errField // this takes in obs-fold and space before the colon
		}
		name := b[:i]
		i++
		for b[i] == ' ' || b[i] == '\t' {
			i++
		}
		j := i
		for class[b[j]]&isText != 0 {
			j++
		}
		if b[j] != '\r' || b[j+1] != '\n' {
			return errField // a bare CR, NUL and other controls
		}
		next := b[j+2:]
		for j > i && (b[j-1] == ' ' || b[j-1] == '\t') {
			j--
		}
		v := b[i:j:j]
		b = next
		k, odd := kindOf(name)
		if odd {
			return errField // Content_Length and the like, which some servers take for Content-Length
		}
		switch k {
		case kindHost:
			if h.hasHost || !all(v, isHost) {
				return errHost
			}
			h.hasHost, h.Host = true, v
		case kindLength:
			if h.length >= 0 || len(v) == 0 || len(v) > 18 {
				return errLength
			}
			h.length = 0
			for _, c := range v {
				if c < '0' || c > '9' {
					return errLength
				}
				h.length = h.length*10 + int64(c-'0')
			}
		case kindTransfer:
			if transfer {
				return errTransfer
			}
			if transfer, h.chunked = true, true; !fold(v, "chunked") {
				return errCoding
			}
		case kindConnection:
			connection = true
		case kindTE:
			h.te = h.te || fold(v, "trailers")
		case kindTrailer:
			h.tra = true
		case kindUpgrade:
			if h.upgrade != nil || len(v) == 0 {
				return errField
			}
			h.upgrade = v
		case kindExpect:
			if h.expect = true; request && !fold(v, "100-continue") {
				return errExpect
			}
		}
		h.Fields = append(h.Fields, Field{Name: name, Value: v, kind: k})
	}
	if h.chunked && h.length >= 0 {
		return errTransfer
	}
	up := false
	if connection {
		tokens := 0
		for i := range h.Fields {
			if h.Fields[i].kind != kindConnection {
				continue
			}
			for v := h.Fields[i].Value; len(v) > 0; {
				t, rest, _ := bytes.Cut(v, []byte(","))
				t, v = bytes.Trim(t, " \t"), rest
				if tokens++; tokens > maxTokens {
					return errField
				}
				switch {
				case len(t) == 0:
				case fold(t, "close"):
					h.close = true
				case fold(t, "keep-alive"):
					h.keep = true
				case fold(t, "upgrade"):
					up = true
				default:
					for j := range h.Fields {
						if bytes.EqualFold(h.Fields[j].Name, t) {
							h.Fields[j].drop = true
						}
					}
				}
			}
		}
	}
	if !up {
		h.upgrade = nil
	}
	return nil
}
