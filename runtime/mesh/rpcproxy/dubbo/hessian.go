package dubbo

import (
	"unicode/utf8"
)

// reader goes over values of hessian 2 (hessian.caucho.com/doc/hessian-serialization.html) without making anything of them. It
// knows of the classes only how many fields each has.
type reader struct {
	b       []byte
	at      int
	classes []int
	room    [8]int // for classes
	depth   int
}

const (
	maxDepth  = 256  // of values in values
	maxFields = 4096 // of a class
	maxClass  = 4096 // of a request
)

func (r *reader) peek() (byte, bool) {
	if r.at >= len(r.b) {
		return 0, false
	}
	return r.b[r.at], true
}

func (r *reader) atEnd() bool {
	c, ok := r.peek()
	return !ok || c == 'Z'
}

// pass goes n bytes on.
func (r *reader) pass(n int) bool {
	if n < 0 || n > len(r.b)-r.at {
		return false
	}
	r.at += n
	return true
}

// characters goes over n of UTF-8. One beyond the basic plane that comes in four bytes is two, as in Java.
func (r *reader) characters(n int) bool {
	for n > 0 {
		if r.at >= len(r.b) {
			return false
		}
		switch c := r.b[r.at]; {
		case c < utf8.RuneSelf:
			r.at++
		case c < 0xe0:
			r.at += 2
		case c < 0xf0:
			r.at += 3
		default:
			r.at += 4
			n--
		}
		n--
	}
	return r.at <= len(r.b)
}

func (r *reader) short() int { // two bytes, which are there
	n := int(r.b[r.at])<<8 | int(r.b[r.at+1])
	r.at += 2
	return n
}

// text reads a string of one chunk; otherwise it stays where it is.
func (r *reader) text() ([]byte, bool) {
	at := r.at
	c, ok := r.peek()
	n := 0
	switch {
	case !ok:
		return nil, false
	case c <= 0x1f:
		n = int(c)
		r.at++
	case c >= 0x30 && c <= 0x33 && len(r.b)-r.at >= 2:
		n = int(c-0x30)<<8 + int(r.b[r.at+1])
		r.at += 2
	case c == 'S' && len(r.b)-r.at >= 3:
		r.at++
		n = r.short()
	default:
		return nil, false
	}
	from := r.at
	if !r.characters(n) {
		r.at = at
		return nil, false
	}
	return r.b[from:r.at], true
}

func (r *reader) textOrNull() ([]byte, bool) {
	if c, ok := r.peek(); ok && c == 'N' {
		r.at++
		return nil, true
	}
	return r.text()
}

// number reads an int.
func (r *reader) number() (int, bool) {
	c, ok := r.peek()
	left := len(r.b) - r.at
	switch {
	case !ok:
	case c >= 0x80 && c <= 0xbf:
		r.at++
		return int(c) - 0x90, true
	case c >= 0xc0 && c <= 0xcf && left >= 2:
		n := (int(c)-0xc8)<<8 + int(r.b[r.at+1])
		r.at += 2
		return n, true
	case c >= 0xd0 && c <= 0xd7 && left >= 3:
		r.at++
		return (int(c)-0xd4)<<16 + r.short(), true
	case c == 'I' && left >= 5:
		r.at++
		high := r.short()
		return int(int32(uint32(high)<<16 | uint32(r.short()))), true
	}
	return 0, false
}

// kind goes over the type of a list or map: a string or the number of one before.
func (r *reader) kind() bool {
	if _, ok := r.text(); ok {
		return true
	}
	_, ok := r.number()
	return ok
}

func (r *reader) enterMap() bool {
	c, ok := r.peek()
	switch {
	case ok && c == 'H':
		r.at++
		return true
	case ok && c == 'M':
		r.at++
		return r.kind()
	}
	return false
}

// skip goes over one value.
func (r *reader) skip() bool {
	if r.depth++; r.depth > maxDepth {
		return false
	}
	defer func() { r.depth-- }()
	for {
		c, ok := r.peek()
		if !ok {
			return false
		}
		if c != 'C' {
			return r.value(c)
		}
		r.at++
		if !r.class() { // and the object follows
			return false
		}
	}
}

func (r *reader) class() bool {
	if _, ok := r.text(); !ok {
		return false
	}
	n, ok := r.number()
	if !ok || n < 0 || n > maxFields || len(r.classes) >= maxClass {
		return false
	}
	for range n {
		if _, ok := r.text(); !ok {
			return false
		}
	}
	if r.classes == nil {
		r.classes = r.room[:0]
	}
	r.classes = append(r.classes, n)
	return true
}

// fixed are the bytes of values that have always as many, their first included.
var fixed = func() (t [256]byte) {
	set := func(from, to int, n byte) {
		for c := from; c <= to; c++ {
			t[c] = n
		}
	}
	set('N', 'N', 1)
	set('T', 'T', 1)
	set('F', 'F', 1)
	set('D', 'D', 9)
	set('I', 'I', 5)
	set('J', 'J', 9)
	set('K', 'K', 5)
	set('L', 'L', 9)
	set('Y', 'Y', 5)
	set(0x38, 0x3f, 3) // long
	set(0x5b, 0x5c, 1) // double
	set(0x5d, 0x5d, 2)
	set(0x5e, 0x5e, 3)
	set(0x5f, 0x5f, 5)
	set(0x80, 0xbf, 1) // int
	set(0xc0, 0xcf, 2)
	set(0xd0, 0xd7, 3)
	set(0xd8, 0xef, 1) // long
	set(0xf0, 0xff, 2)
	return t
}()

func (r *reader) value(c byte) bool {
	if n := fixed[c]; n != 0 {
		return r.pass(int(n))
	}
	switch {
	case c <= 0x1f, c >= 0x30 && c <= 0x33:
		_, ok := r.text()
		return ok
	case c >= 0x20 && c <= 0x2f:
		return r.pass(1 + int(c-0x20))
	case c >= 0x34 && c <= 0x37:
		return len(r.b)-r.at >= 2 && r.pass(2+int(c-0x34)<<8+int(r.b[r.at+1]))
	case c == 'R', c == 'S', c == 'A', c == 'B':
		return r.chunks()
	case c >= 0x60 && c <= 0x6f:
		r.at++
		return r.object(int(c - 0x60))
	case c >= 0x70 && c <= 0x77:
		r.at++
		return r.kind() && r.values(int(c-0x70))
	case c >= 0x78 && c <= 0x7f:
		r.at++
		return r.values(int(c - 0x78))
	}
	r.at++
	switch c {
	case 'H':
		return r.untilEnd()
	case 'M':
		return r.kind() && r.untilEnd()
	case 'U':
		return r.kind() && r.untilEnd()
	case 'W':
		return r.untilEnd()
	case 'V':
		return r.kind() && r.counted()
	case 'X':
		return r.counted()
	case 'O':
		n, ok := r.number()
		return ok && r.object(n)
	case 'Q':
		_, ok := r.number()
		return ok
	}
	return false
}

// chunks goes over a string or binary in several.
func (r *reader) chunks() bool {
	for {
		c, ok := r.peek()
		switch {
		case !ok:
			return false
		case c == 'R' || c == 'S' || c == 'A' || c == 'B':
			if len(r.b)-r.at < 3 {
				return false
			}
			r.at++
			n := r.short()
			if text := c == 'R' || c == 'S'; text && !r.characters(n) || !text && !r.pass(n) {
				return false
			}
			if c == 'S' || c == 'B' {
				return true
			}
		default: // the last one may be a short one
			return r.value(c)
		}
	}
}

func (r *reader) object(class int) bool {
	return class >= 0 && class < len(r.classes) && r.values(r.classes[class])
}

func (r *reader) counted() bool {
	n, ok := r.number()
	return ok && r.values(n)
}

func (r *reader) values(n int) bool {
	if n < 0 || n > len(r.b)-r.at { // each takes a byte at least
		return false
	}
	for range n {
		if !r.skip() {
			return false
		}
	}
	return true
}

func (r *reader) untilEnd() bool {
	for {
		c, ok := r.peek()
		if !ok {
			return false
		}
		if c == 'Z' {
			r.at++
			return true
		}
		if !r.skip() {
			return false
		}
	}
}

// put appends a string, whose characters are all of the basic plane.
func put(b []byte, s string) []byte {
	switch n := utf8.RuneCountInString(s); {
	case n <= 0x1f:
		b = append(b, byte(n))
	case n <= 0x3ff:
		b = append(b, 0x30+byte(n>>8), byte(n))
	default:
		b = append(b, 'S', byte(n>>8), byte(n))
	}
	return append(b, s...)
}
