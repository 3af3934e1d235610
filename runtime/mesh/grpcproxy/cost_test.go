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

const costCalls = 32 // in one read

// hop is a client and a server in memory with a relay between them.
type hop struct {
	t    testing.TB
	r    *Relay
	c    *raw
	head []Field // of each request
	id   uint32
	buf  []byte
}

// newHop makes one whose requests have headers more than usual: names and values in turn.
func newHop(t testing.TB, r *Relay, more ...string) *hop {
	up := r.NewUpstream("mem", 1, func(context.Context) (net.Conn, error) {
		a, b := MemPipe(1 << 20)
		go answerAll(b)
		return a, nil
	})
	r.Route = func(h *Headers) (*Upstream, error) { h.Set("x-added", "by-relay"); return up, nil }
	r.Done = func(o *Outcome) {
		if o.Status != 0 {
			t.Errorf("%+v", o)
		}
	}
	a, b := MemPipe(1 << 20)
	go r.ServeConn(b)
	t.Cleanup(r.Close)
	h := &hop{t: t, r: r, c: &raw{t: t, nc: a, br: newReader(a)}, id: 1}
	all := append([]string{":method", "POST", ":scheme", "http", ":path", "/test.Echo/Raw", ":authority", "x", "content-type", "application/grpc", "te", "trailers"}, more...)
	for i := 0; i < len(all); i += 2 {
		h.head = append(h.head, newField(all[i], all[i+1]))
	}
	h.c.enc.init()
	h.c.write(appendU32(appendSettings([]byte(preface), setWindow, 1<<30), fWindow, 0, 1<<30))
	for range 20 {
		h.round()
	}
	return h
}

// round makes costCalls calls that come in one read.
func (h *hop) round() {
	h.buf = h.buf[:0]
	for range costCalls {
		h.buf = appendList(h.buf, &h.c.enc, h.id, 0, h.head)
		h.buf = append(appendFrame(h.buf, 100, fData, flagEnd, h.id), make([]byte, 100)...)
		h.id += 2
	}
	h.c.write(h.buf)
	var head [frameHeader]byte
	for left := costCalls; left > 0; {
		if _, err := io.ReadFull(h.c.br, head[:]); err != nil {
			h.t.Fatal(err)
		}
		if _, err := h.c.br.Discard(int(head[0])<<16 | int(head[1])<<8 | int(head[2])); err != nil {
			h.t.Fatal(err)
		}
		if head[3] == fHeaders && head[4]&flagEnd != 0 {
			left--
		}
	}
}

// TestHopCost counts what a relayed call costs, not how long it takes, so that no noise disturbs it: writes and
// allocations for each of many calls that come in one read. A flush for each frame instead of each read, a goroutine, a
// timer or a context for each call would show. The race detector allocates, so that the file is not built with it.
func TestHopCost(t *testing.T) {
	for name, extra := range map[string][]string{"without": nil, "with a deadline": {"grpc-timeout", "10S"}} {
		t.Run(name, func(t *testing.T) {
			const rounds = 200
			h := newHop(t, &Relay{Margins: 1}, extra...)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			writes := h.r.Stats().Writes
			for range rounds {
				h.round()
			}
			runtime.ReadMemStats(&after)
			per := func(n float64) float64 { return n / (costCalls * rounds) }
			w, m := per(float64(h.r.Stats().Writes-writes)), per(float64(after.Mallocs-before.Mallocs))
			size := per(float64(after.TotalAlloc - before.TotalAlloc))
			if n := h.r.Stats().Stalls; n > 0 {
				t.Fatal("writes left to a goroutine: ", n)
			}
			t.Logf("a call: %.3f writes, %.2f allocations, %.0f bytes", w, m, size)
			if w > 0.1 || m > 5 || size > 1000 {
				t.Fatal("a hop has become dearer")
			}
		})
	}
}

// BenchmarkHopInMemory times a relayed call without sockets and without gRPC's own cost.
func BenchmarkHopInMemory(b *testing.B) {
	for name, extra := range map[string][]string{"none": nil, "deadline": {"grpc-timeout", "1S"}} {
		b.Run(name, func(b *testing.B) {
			h := newHop(b, &Relay{Margins: 1}, extra...)
			for i := 0; i < b.N; i += costCalls {
				h.round()
			}
		})
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
