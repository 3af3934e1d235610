package grpcproxy

import (
	"golang.org/x/net/http2/hpack"
)

// decoder reads header blocks. It keeps its table right even when a list is over the limit.
type decoder struct{ table }

// decode appends the fields of one block to dst; over says that the list was larger than limit and is not whole.
func (d *decoder) decode(p []byte, limit int, dst []Field) (_ []Field, over bool, err error) {
	total, start := 0, true
	emit := func(f *Field) {
		if total += f.size(); total > limit {
			over = true
			return
		}
		dst = append(dst, *f)
	}
	for len(p) > 0 {
		b := p[0]
		var i int
		if b&0x80 != 0 { // indexed
			if i, p, err = varint(p, 7); err != nil {
				return dst, over, err
			}
			f := d.at(i)
			if f == nil {
				return dst, over, errHPACK
			}
			emit(f)
			start = false
			continue
		}
		if b&0xe0 == 0x20 { // table size update, only at the start of a block
			if i, p, err = varint(p, 5); err != nil || !start || i > tableMax {
				return dst, over, errHPACK
			}
			d.max = i
			d.evict(0, nil)
			continue
		}
		start = false
		bits := 4
		if b&0xc0 == 0x40 {
			bits = 6
		}
		if i, p, err = varint(p, bits); err != nil {
			return dst, over, err
		}
		var name, value string
		if i > 0 {
			f := d.at(i)
			if f == nil {
				return dst, over, errHPACK
			}
			name = f.Name
		} else if name, p, err = readString(p); err != nil {
			return dst, over, err
		}
		if value, p, err = readString(p); err != nil {
			return dst, over, err
		}
		f := newField(name, value)
		f.Sensitive = b&0xf0 == 0x10
		if bits == 6 {
			d.add(f, nil)
		}
		emit(&f)
	}
	return dst, over, nil
}

func (d *decoder) at(i int) *Field {
	if i <= 0 {
		return nil
	}
	if i < len(staticTable) {
		return &staticTable[i]
	}
	if i -= len(staticTable); i >= d.len() {
		return nil
	}
	return &d.f[len(d.f)-1-i]
}

func varint(p []byte, bits int) (int, []byte, error) {
	m := 1<<bits - 1
	v := int(p[0]) & m
	p = p[1:]
	if v < m {
		return v, p, nil
	}
	for s := 0; len(p) > 0 && s <= 21; s += 7 {
		b := p[0]
		p = p[1:]
		v += int(b&0x7f) << s
		if b&0x80 == 0 {
			return v, p, nil
		}
	}
	return 0, nil, errHPACK
}

func readString(p []byte) (string, []byte, error) {
	if len(p) == 0 {
		return "", nil, errHPACK
	}
	huff := p[0]&0x80 != 0
	n, p, err := varint(p, 7)
	if err != nil || n > len(p) {
		return "", nil, errHPACK
	}
	if !huff {
		return string(p[:n]), p[n:], nil
	}
	s, err := hpack.HuffmanDecodeToString(p[:n])
	return s, p[n:], err
}
