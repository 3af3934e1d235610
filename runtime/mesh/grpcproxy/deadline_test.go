package grpcproxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2/hpack"
)

func TestMargin(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		0: 0, time.Millisecond: 250 * time.Microsecond, 4 * time.Millisecond: time.Millisecond, 15 * time.Millisecond: time.Millisecond,
		50 * time.Millisecond: 2500 * time.Microsecond, 300 * time.Millisecond: 15 * time.Millisecond, time.Second: 25 * time.Millisecond,
		maxTimeout: 25 * time.Millisecond,
	} {
		if got := Margin(timeout); got != want {
			t.Errorf("%s: %s, not %s", timeout, got, want)
		}
	}
}

const patience = 5 * time.Second // of a test's peer, in the bubble's time

// between is a relay in memory and in a bubble of its own time, with a client and a server that do what the test says.
type between struct {
	*testing.T
	r      *Relay
	up     *Upstream
	client *raw
	server *raw
	began  time.Time
}

func inBubble(t *testing.T, r *Relay, test func(*between)) {
	synctest.Test(t, func(t *testing.T) {
		down, c := MemPipe(1 << 20)
		up, s := MemPipe(1 << 20)
		x := &between{T: t, r: r, client: newRaw(t, c), server: newRaw(t, s)}
		x.up = r.NewUpstream("srv", 1, func(context.Context) (net.Conn, error) { return up, nil })
		if r.Route == nil {
			r.Route = func(*Headers) (*Upstream, error) { return x.up, nil }
		}
		served := make(chan struct{})
		go func() { r.ServeConn(down); close(served) }()
		x.client.write(appendSettings([]byte(preface)))
		x.server.write(appendU32(appendSettings(nil, setWindow, 1<<20, setMaxStreams, 1<<20), fWindow, 0, 1<<20))
		synctest.Wait()
		x.began = time.Now()
		defer func() {
			r.Close()
			<-served
			c.Close()
			s.Close()
		}()
		test(x)
	})
}

func newRaw(t testing.TB, nc net.Conn) *raw {
	c := &raw{t: t, nc: nc, br: newReader(nc), dec: hpack.NewDecoder(4096, nil)}
	c.enc.init()
	return c
}

// take is the server's: it reads the preface, if it comes first, and a request's headers.
func (x *between) take() (id uint32, h map[string]string) {
	x.server.nc.SetReadDeadline(time.Now().Add(patience))
	if p, err := x.server.br.Peek(3); err == nil && string(p) == preface[:3] {
		x.server.br.Discard(len(preface))
	}
	for {
		typ, id, p, err := x.server.read()
		if err != nil {
			x.Fatal(err)
		}
		if typ != fHeaders {
			continue
		}
		fs, err := x.server.dec.DecodeFull(p)
		if err != nil {
			x.Fatal(err)
		}
		h = map[string]string{}
		for _, f := range fs {
			h[f.Name] = f.Value
		}
		return id, h
	}
}

// reset is the server's: it reads up to an RST_STREAM.
func (x *between) reset() (id, code uint32) {
	x.server.nc.SetReadDeadline(time.Now().Add(patience))
	for {
		typ, id, p, err := x.server.read()
		if err != nil {
			x.Fatal(err)
		}
		if typ == fReset {
			return id, binary.BigEndian.Uint32(p)
		}
	}
}

// ends checks how stream id ends for the client, and when.
func (x *between) ends(id uint32, after time.Duration, says string) {
	x.Helper()
	end := x.client.ending(id)
	if took := time.Since(x.began); took != after {
		x.Errorf("stream %d: it took %s, not %s", id, took, after)
	}
	if end["grpc-status"] != "4" || end["grpc-status-details-bin"] == "" || end[originHeader] != "sidecar" || !strings.Contains(end["grpc-message"], says) {
		x.Errorf("stream %d: %v; want %s", id, end, says)
	}
}

// settled checks that nothing is left of the streams, and no credit lost.
func (x *between) settled() {
	x.Helper()
	synctest.Wait()
	x.r.mu.Lock()
	defer x.r.mu.Unlock()
	for c := range x.r.conns {
		c.mu.Lock()
		if n := len(c.streams) + len(c.blocked); n > 0 || c.held.Load() != 0 || c.owed.Load() != 0 ||
			c.credit.Load()+c.unacked.Load() != int64(x.r.ConnWindow) {
			x.Errorf("up=%v: %d streams, %d held, %d owed, credit %d and %d", c.up != nil, n, c.held.Load(), c.owed.Load(), c.credit.Load(), c.unacked.Load())
		}
		c.mu.Unlock()
	}
}

// The client hears a margin before its deadline what was waited for, the server that the call is cancelled; it was told the
// deadline that the client has set.
func TestAnsweredBeforeDeadline(t *testing.T) {
	var out Outcome
	r := &Relay{Margins: 1, Done: func(o *Outcome) { out = *o }}
	inBubble(t, r, func(x *between) {
		x.client.request(1, true, "grpc-timeout", "1S")
		_, h := x.take()
		if d, ok := parseTimeout(h["grpc-timeout"]); !ok || d != time.Second {
			t.Error("the server was told", h["grpc-timeout"])
		}
		x.ends(1, 975*time.Millisecond, "deadline exceeded after 975ms: connected to srv, the request was sent, no answer")
		if id, code := x.reset(); id != 1 || code != codeCancel {
			t.Error("RST_STREAM", id, code)
		}
		x.settled()
		if out.Flag != FlagTimeout || out.Status != grpcDeadline || !out.Local || out.Err == nil || out.Err.Answered {
			t.Errorf("%+v", out)
		}
	})
}

// A relay that is not the caller's takes nothing off, and ends what nobody else has ended.
func TestEndedAfterDeadline(t *testing.T) {
	inBubble(t, &Relay{}, func(x *between) {
		x.client.request(1, true, "grpc-timeout", "1S")
		x.take()
		x.ends(1, time.Second+lateGrace, "no answer")
		if id, code := x.reset(); id != 1 || code != codeCancel {
			t.Error("RST_STREAM", id, code)
		}
		x.settled()
	})
}

// Each of several streams ends at its own time, whichever came first; those without a deadline go on.
func TestDeadlinesOfManyStreams(t *testing.T) {
	inBubble(t, &Relay{Margins: 1}, func(x *between) {
		for i, limit := range []string{"1S", "", "200m", "4S", "400m", "10m"} {
			var more []string
			if limit != "" {
				more = []string{"grpc-timeout", limit}
			}
			x.client.request(uint32(1+2*i), i != 4, more...)
		}
		x.ends(11, 9*time.Millisecond, "sent, no answer")
		x.ends(5, 190*time.Millisecond, "sent, no answer")
		x.ends(9, 380*time.Millisecond, "sent in part, no answer")
		x.ends(1, 975*time.Millisecond, "sent, no answer")
		x.ends(7, 4*time.Second-25*time.Millisecond, "sent, no answer")
		x.client.write(appendU32(nil, fReset, 3, codeCancel))
		x.settled()
	})
}

// A stream whose answer has begun ends with trailers. What waits for its client, which does not read, is dropped, and what the
// server still sends is taken for what crossed the cancellation: no credit is lost.
func TestDeadlineOfBegunStream(t *testing.T) {
	var out Outcome
	r := &Relay{Margins: 1, StreamWindow: 64 << 10, Done: func(o *Outcome) { out = *o }}
	inBubble(t, r, func(x *between) {
		x.client.request(1, false, "grpc-timeout", "1S")
		id, _ := x.take()
		x.server.write(appendList(nil, &x.server.enc, id, 0, okHeaders))
		chunk := func() { x.server.write(append(appendFrame(nil, maxFrame, fData, 0, id), make([]byte, maxFrame)...)) }
		for range 4 { // the client's window, not quite
			chunk()
		}
		synctest.Wait()
		x.ends(1, 975*time.Millisecond, "connected to srv, whose answer has begun and not ended")
		chunk()
		x.settled()
		if out.Err == nil || !out.Err.Answered || out.Received != 4*maxFrame {
			t.Errorf("%+v", out)
		}
	})
}

// Requests that have not been sent say what they wait for.
func TestDeadlineWhileWaiting(t *testing.T) {
	r := &Relay{Margins: 1, Late: func(tag any, e *Error) { e.Message = fmt.Sprint(tag, ": ", e.Message) }}
	var full *Upstream
	r.Route = func(h *Headers) (*Upstream, error) {
		if h.Tag = "call"; h.Get("where") == "full" {
			return full, nil
		}
		h.Later()
		return nil, ErrLater
	}
	inBubble(t, r, func(x *between) {
		full = r.NewUpstream("full", 1, func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() })
		x.client.request(1, true, "grpc-timeout", "1S")
		x.client.request(3, true, "grpc-timeout", "2S", "where", "full")
		x.ends(1, 975*time.Millisecond, "call: deadline exceeded after 975ms: still waiting for an instance to be known")
		x.ends(3, 1975*time.Millisecond, "call: deadline exceeded after 1.975s: still waiting for a place on a connection to full")
		x.settled()
	})
}

// A local method that hangs is answered for, and its context has ended; the deadline it sees is the client's.
func TestDeadlineOfLocalCall(t *testing.T) {
	r := &Relay{Margins: 1}
	over := make(chan error, 1)
	r.Unary("/test.Echo/Raw", Method{Blocking: true, Handler: func(ctx context.Context, _, resp []byte) ([]byte, *Status) {
		began := time.Now()
		if d, _ := ctx.Deadline(); d.Sub(began) != time.Second {
			t.Error("deadline in", d.Sub(began))
		}
		<-ctx.Done()
		if took := time.Since(began); took != 975*time.Millisecond {
			t.Error("its context has ended after", took)
		}
		over <- ctx.Err()
		return resp, nil
	}})
	inBubble(t, r, func(x *between) {
		x.client.write(append(appendFrame(x.client.appendRequest(nil, 1, false, "grpc-timeout", "1S"), 5, fData, flagEnd, 1), 0, 0, 0, 0, 0))
		x.ends(1, 975*time.Millisecond, "the method has not finished")
		if err := <-over; err != context.DeadlineExceeded {
			t.Error(err)
		}
		x.settled()
	})
}

// The answer comes at the moment in which the time is up: the client gets one of the two, whole, and nothing after it.
func TestAnswerAtDeadline(t *testing.T) {
	const streams = 100
	codes := map[string]int{}
	for range 20 {
		inBubble(t, &Relay{Margins: 1}, func(x *between) {
			for i := range uint32(streams) {
				x.client.request(2*i+1, true, "grpc-timeout", "1S")
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for range streams {
					id, _ := x.take()
					if id == 1 {
						time.Sleep(975*time.Millisecond - time.Since(x.began))
					}
					x.server.write(appendList(append(appendList(nil, &x.server.enc, id, 0, okHeaders),
						appendFrame(nil, 0, fData, 0, id)...), &x.server.enc, id, flagEnd, okTrailers))
				}
			})
			ended := map[uint32]string{}
			for len(ended) < streams {
				typ, flags, id, p := x.frame()
				if ended[id] != "" {
					t.Errorf("stream %d: frame type %d after its end", id, typ)
				}
				if typ != fHeaders {
					continue
				}
				fs, err := x.client.dec.DecodeFull(p)
				if err != nil {
					t.Fatal(err)
				}
				if flags&flagEnd != 0 {
					for _, f := range fs {
						if f.Name == "grpc-status" {
							ended[id] = f.Value
							codes[f.Value]++
						}
					}
				}
			}
			wg.Wait()
			synctest.Wait()
			if x.client.br.Buffered() != 0 {
				t.Error("more comes after all streams have ended")
			}
			x.settled()
		})
	}
	t.Log("ended with: ", codes)
	if codes["0"]+codes["4"] != 20*streams {
		t.Error(codes)
	}
}

// frame reads one, with its flags.
func (x *between) frame() (typ, flags byte, id uint32, p []byte) {
	x.client.nc.SetReadDeadline(time.Now().Add(patience))
	var h [frameHeader]byte
	if _, err := io.ReadFull(x.client.br, h[:]); err != nil {
		x.Fatal(err)
	}
	p = make([]byte, int(h[0])<<16|int(h[1])<<8|int(h[2]))
	if _, err := io.ReadFull(x.client.br, p); err != nil {
		x.Fatal(err)
	}
	return h[3], h[4], binary.BigEndian.Uint32(h[5:]), p
}
