package bolt

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// SOFARPC writes the older draft of hessian 2: a class is 'O', the length of its name and the name, the number of its fields and
// their names; an object of it 'o', the class's number and the values of the fields.

const mostFields = 16 // of a class

// named reads the service and the method from the begin of a SofaRequest, as far as they come before anything but strings.
func named(b []byte) (service, method []byte) {
	r := reader{b}
	if !r.lead('O') || string(r.take(r.number())) != classRequest {
		return nil, nil
	}
	var fields [mostFields]string
	n := r.number()
	if n < 0 || n > mostFields {
		return nil, nil
	}
	for i := range n {
		fields[i] = string(r.text())
	}
	if !r.lead('o') || r.number() != 0 {
		return nil, nil
	}
	for _, field := range fields[:n] {
		value, ok := r.maybe()
		if !ok {
			break
		}
		switch field {
		case "targetServiceUniqueName":
			service = value
		case "methodName":
			method = value
		}
	}
	return service, method
}

// What a SOFARPC server says, in whatever language, when it has no such service (any more), and when it has stopped: the call was not begun if that is
// about this service and this server. A service that was told of another one's, and has begun, may pass that on: as an error of the framework's if it
// answers later, and by protobuf, which has nothing but a text, also by what it throws.
const (
	saysNoService = "RPC-020100010"
	saysStopped   = "RPC-019990009"
)

// unserved tells whether the body of a response that is an error says so, and of what: that stands in brackets.
func unserved(codec byte, body []byte) (about []byte, ok bool) {
	text := body
	if codec == codecHessian {
		text = framework(body)
	}
	if !bytes.HasPrefix(text, []byte(saysNoService)) && !bytes.HasPrefix(text, []byte(saysStopped)) {
		return nil, false
	}
	from := bytes.IndexByte(text, '[') + 1
	n := bytes.IndexByte(text[from:], ']')
	if from == 0 || n < 0 {
		return nil, false
	}
	return text[from : from+n], true
}

// framework reads the text of an error of SOFARPC's own from the begin of a SofaResponse.
func framework(b []byte) []byte {
	r := reader{b}
	if !r.lead('O') || string(r.take(r.number())) != classResponse {
		return nil
	}
	fields := r.number()
	if fields < 2 || string(r.text()) != "isError" || string(r.text()) != "errorMsg" {
		return nil
	}
	for range min(fields, mostFields) - 2 {
		r.text()
	}
	if !r.lead('o') || r.number() != 0 || !r.lead('T') {
		return nil
	}
	return r.text()
}

// reader reads what it can; what is not there, or is something else, is empty.
type reader struct{ b []byte }

func (r *reader) lead(c byte) bool {
	if len(r.b) == 0 || r.b[0] != c {
		return false
	}
	r.b = r.b[1:]
	return true
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b = nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// number reads an int; -1: there is none.
func (r *reader) number() int {
	if len(r.b) == 0 {
		return -1
	}
	c := int(r.b[0])
	switch {
	case c >= 0x80 && c <= 0xbf:
		r.b = r.b[1:]
		return c - 0x90
	case c >= 0xc0 && c <= 0xcf && len(r.b) > 1:
		n := (c-0xc8)<<8 + int(r.b[1])
		r.b = r.b[2:]
		return n
	case c == 'I' && len(r.b) > 4:
		n := int(int32(uint32(r.b[1])<<24 | uint32(r.b[2])<<16 | uint32(r.b[3])<<8 | uint32(r.b[4])))
		r.b = r.b[5:]
		return n
	}
	return -1
}

// text reads a short string, or one of one chunk.
func (r *reader) text() []byte {
	out, _ := r.maybe()
	return out
}

// maybe reads a string, or null.
func (r *reader) maybe() (out []byte, ok bool) {
	if len(r.b) == 0 {
		return nil, false
	}
	n := 0
	switch c := r.b[0]; {
	case c == 'N':
		r.b = r.b[1:]
		return nil, true
	case c <= 0x1f:
		n = int(c)
		r.b = r.b[1:]
	case c == 'S' && len(r.b) >= 3:
		n = int(r.b[1])<<8 | int(r.b[2])
		r.b = r.b[3:]
	default:
		return nil, false
	}
	size := 0
	for ; n > 0; n-- { // characters
		if size >= len(r.b) {
			return nil, false
		}
		_, w := utf8.DecodeRune(r.b[size:])
		size += w
	}
	return r.take(size), true
}

// sofaResponse is a SofaResponse that is an error, whose text is plain.
func sofaResponse(text string) string {
	var b strings.Builder
	b.WriteByte('O')
	b.WriteByte(0x90 + byte(len(classResponse)))
	b.WriteString(classResponse)
	b.WriteByte(0x90 + 4)
	for _, field := range [...]string{"isError", "errorMsg", "appResponse", "responseProps"} {
		b.WriteByte(byte(len(field)))
		b.WriteString(field)
	}
	b.WriteString("o\x90T")
	b.Write(hessianText(nil, text))
	b.WriteString("NN")
	return b.String()
}

// hessianText appends a string in one chunk, which is plain.
func hessianText(b []byte, text string) []byte {
	n := utf8.RuneCountInString(text)
	return append(append(b, 'S', byte(n>>8), byte(n)), text...)
}
