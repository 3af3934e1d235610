package httpproxy

import (
	"bytes"
	"io"
	"strconv"
	"sync/atomic"
)

type mode byte

const (
	none mode = iota
	fixed
	chunked
	toClose
)

// body is what follows a head.
type body struct {
	mode
	chunk   bool // it goes out chunked
	done    bool
	state   byte  // of chunked: 0 size, 1 data, 2 its end, 3 trailers
	left    int64 // of fixed, or of the chunk
	at      int
	ext     int
	spliced bool  // the error came from splicing: it may be either end's
	n       int64 // payload bytes so far
	tail    Head

	reserved string      // fields that do not pass in trailers: those whose names begin so
	kept     *[]byte     // what was taken so far, as it was sent; nil: it is in the stream's buffer, or lost
	most     int         // of kept
	lost     atomic.Bool // what was taken cannot be sent again
}

// request is the body that follows a request's head.
func (b *body) request(h *Head) {
	m := none
	if h.chunked {
		m = chunked
	} else if h.length > 0 {
		m = fixed
	}
	reserved := b.reserved
	b.init(m, h.length, h.chunked)
	b.reserved = reserved
}

// keep begins to keep what is taken, most bytes of it, of which p is the first.
func (b *body) keep(p []byte, most int) {
	if b.mode == fixed && b.left+int64(len(p)) > int64(most) {
		return // it would be for nothing
	}
	b.kept, b.most = new([]byte), most
	b.note(p)
}

// note keeps p, which is about to be sent.
func (b *body) note(p []byte) {
	if b.kept == nil {
		return
	}
	if len(*b.kept)+len(p) > b.most {
		b.kept = nil
		b.lost.Store(true)
		return
	}
	*b.kept = append(*b.kept, p...)
}

func (b *body) init(m mode, length int64, chunk bool) {
	*b = body{mode: m, chunk: chunk, left: length, tail: Head{Fields: b.tail.Fields[:0], most: headFields(false)}}
	b.done = m == none || m == fixed && length == 0
}

// take returns out with what src has buffered, framed for the receiver; if out is empty this may be a part of src's buffer.
func (b *body) take(out []byte, src *stream) (p []byte, direct bool, err error) {
	have := src.buf[src.r:src.w]
	switch {
	case b.done || len(have) == 0:
		return out, false, nil
	case b.mode == chunked:
		out, err = b.chunks(out, src)
		return out, false, err
	case b.mode == fixed && b.left < int64(len(have)):
		have = have[:b.left]
	}
	src.r += len(have)
	b.n += int64(len(have))
	if b.mode == fixed {
		b.left -= int64(len(have))
		b.done = b.left == 0
	}
	if b.chunk || len(out) > 0 {
		return b.piece(out, have), false, nil
	}
	return have, true, nil
}

func (b *body) piece(out, p []byte) []byte {
	if !b.chunk {
		return append(out, p...)
	}
	out = append(strconv.AppendInt(out, int64(len(p)), 16), "\r\n"...)
	return append(append(out, p...), "\r\n"...)
}

func (b *body) chunks(out []byte, src *stream) ([]byte, error) {
	for !b.done {
		have := src.buf[src.r:src.w]
		switch b.state {
		case 0:
			i := bytes.IndexByte(have, '\n')
			if i < 0 {
				if len(have) > maxLine {
					return out, errChunk
				}
				return out, nil
			}
			if i < 2 || i > maxLine || have[i-1] != '\r' {
				return out, errChunk
			}
			line, size := have[:i-1], int64(0)
			d := 0
			for ; d < len(line); d++ {
				c := line[d]
				switch {
				case c >= '0' && c <= '9':
					c -= '0'
				case c >= 'a' && c <= 'f':
					c -= 'a' - 10
				case c >= 'A' && c <= 'F':
					c -= 'A' - 10
				default:
					c = 255
				}
				if c == 255 {
					break
				}
				size = size<<4 | int64(c)
			}
			b.ext += len(line) - d
			if d == 0 || d > 15 || d < len(line) && line[d] != ';' || !all(line[d:], isText) || b.ext > maxExt {
				return out, errChunk
			}
			src.r += i + 1
			b.left = size
			if b.state = 1; size == 0 {
				b.state, b.at = 3, 0
			}
		case 1:
			if len(have) == 0 {
				return out, nil
			}
			if int64(len(have)) > b.left {
				have = have[:b.left]
			}
			out = b.piece(out, have)
			src.r += len(have)
			b.n += int64(len(have))
			if b.left -= int64(len(have)); b.left == 0 {
				b.state = 2
			}
		case 2:
			if len(have) < 2 {
				return out, nil
			}
			if have[0] != '\r' || have[1] != '\n' {
				return out, errChunk
			}
			src.r += 2
			b.state = 0
		case 3:
			end, err := headEnd(have, &b.at)
			if err != nil || end == 0 {
				return out, err
			}
			b.tail.reset()
			if err := b.tail.parseFields(have[:end], false); err != nil {
				return out, errChunk
			}
			src.r += end
			out = b.end(out)
		}
	}
	return out, nil
}

// end ends the body as the receiver gets it.
func (b *body) end(out []byte) []byte {
	b.done = true
	if b.chunk {
		if b.reserved != "" {
			b.tail.DelPrefix(b.reserved)
		}
		out = append(b.tail.appendFields(append(out, "0\r\n"...)), "\r\n"...)
	}
	return out
}

// move passes the rest of the body on, after out, and returns out's space. tick is called before each step that may block.
func (b *body) move(dst, src *stream, out []byte, tick func() error) (_ []byte, rerr, werr error) {
	for {
		had := len(out)
		p, direct, bad := b.take(out, src)
		if direct {
			b.note(p)
		} else {
			b.note(p[had:])
		}
		if !direct {
			out = p
		}
		if err := tick(); err != nil {
			return out, err, nil
		}
		if len(p) > 0 {
			if _, err := dst.write(p); err != nil {
				return out, nil, err
			}
			out = out[:0]
		}
		if bad != nil || b.done {
			return out, bad, nil
		}
		if b.mode == fixed && b.left >= spliceMin && src.tcp != nil && dst.tcp != nil && b.kept == nil {
			n, err := dst.tcp.ReadFrom(&io.LimitedReader{R: src.tcp, N: min(b.left, splicePart)})
			b.left -= n
			b.n += n
			if b.done = b.left == 0; b.done {
				return out, nil, nil
			}
			if err != nil || n == 0 {
				b.spliced = err != nil
				return out, io.ErrUnexpectedEOF, nil
			}
			continue
		}
		if err := src.fill(); err == io.EOF && b.mode == toClose {
			out = b.end(out)
		} else if err == io.EOF {
			return out, io.ErrUnexpectedEOF, nil
		} else if err != nil {
			return out, err, nil
		}
	}
}
