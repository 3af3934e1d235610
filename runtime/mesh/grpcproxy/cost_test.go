//go:build !race

package grpcproxy

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
)

// TestHopCost counts what a relayed call costs, not how long it takes, so that no noise disturbs it: writes and
// allocations for each of many calls that come in one read. A flush for each frame instead of each read, a goroutine or
// a context for each call would show. The race detector allocates, so that the file is not built with it.
func TestHopCost(t *testing.T) {
	const calls, rounds = 32, 200
	r := &Relay{}
	defer r.Close()
	up := r.NewUpstream("mem", 1, func(context.Context) (net.Conn, error) {
		a, b := MemPipe(1 << 20)
		go answerAll(b)
		return a, nil
	})
	ended := 0
	r.Route = func(h *Headers) (*Upstream, error) { h.Set("x-added", "by-relay"); return up, nil }
	r.Done = func(o *Outcome) {
		if ended++; o.Status != 0 {
			t.Errorf("%+v", o)
		}
	}
	a, b := MemPipe(1 << 20)
	go r.ServeConn(b)
	c := &raw{t: t, nc: a, br: newReader(a)}
	c.enc.init()
	c.write(appendU32(appendSettings([]byte(preface), setWindow, 1<<30), fWindow, 0, 1<<30))
	id := uint32(1)
	var buf []byte
	var h [frameHeader]byte
	round := func() {
		buf = buf[:0]
		for range calls {
			buf = c.appendRequest(buf, id, false)
			buf = append(appendFrame(buf, 100, fData, flagEnd, id), make([]byte, 100)...)
			id += 2
		}
		c.write(buf)
		for left := calls; left > 0; {
			if _, err := io.ReadFull(c.br, h[:]); err != nil {
				t.Fatal(err)
			}
			if _, err := c.br.Discard(int(h[0])<<16 | int(h[1])<<8 | int(h[2])); err != nil {
				t.Fatal(err)
			}
			if h[3] == fHeaders && h[4]&flagEnd != 0 {
				left--
			}
		}
	}
	for range 20 {
		round()
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	writes := r.Stats().Writes
	for range rounds {
		round()
	}
	runtime.ReadMemStats(&after)
	per := func(n float64) float64 { return n / (calls * rounds) }
	w, m := per(float64(r.Stats().Writes-writes)), per(float64(after.Mallocs-before.Mallocs))
	size := per(float64(after.TotalAlloc - before.TotalAlloc))
	if n := r.Stats().Stalls; n > 0 {
		t.Fatal("writes left to a goroutine: ", n)
	}
	t.Logf("a call: %.3f writes, %.2f allocations, %.0f bytes", w, m, size)
	if w > 0.1 || m > 5 || size > 1000 {
		t.Fatal("a hop has become dearer")
	}
}

// answerAll is an HTTP/2 server that answers what one read has brought by one write.
func answerAll(nc net.Conn) {
	defer nc.Close()
	out := appendU32(appendSettings(nil, setWindow, 1<<30, setMaxStreams, 1<<30), fWindow, 0, 1<<30)
	var enc encoder
	enc.init()
	in := make([]byte, 256<<10)
	io.ReadFull(nc, in[:len(preface)])
	have := 0
	for {
		if len(out) > 0 {
			if _, err := nc.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		n, err := nc.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		at := 0
		for have-at >= frameHeader {
			h := in[at:]
			n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
			if have-at < frameHeader+n {
				break
			}
			if id := binary.BigEndian.Uint32(h[5:]); h[3] == fData && h[4]&flagEnd != 0 {
				out = appendList(out, &enc, id, 0, okHeaders)
				out = append(appendFrame(out, n, fData, 0, id), h[frameHeader:frameHeader+n]...)
				out = appendList(out, &enc, id, flagEnd, okTrailers)
			}
			at += frameHeader + n
		}
		have = copy(in, in[at:have])
	}
}

func appendList(b []byte, enc *encoder, id uint32, flags byte, fields []Field) []byte {
	at := len(b)
	b = appendFrame(b, 0, fHeaders, flags|flagEndHeaders, id)
	for i := range fields {
		b = enc.field(b, &fields[i])
	}
	b[at+2] = byte(len(b) - at - frameHeader)
	return b
}
