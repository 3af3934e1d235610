package grpcproxy

import (
	"context"
	"errors"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// awaitBlocked waits until a goroutine is in function, and waits there for a lock.
func awaitBlocked(function string) {
	for stacks := make([]byte, 1<<20); ; runtime.Gosched() {
		for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(g, "sync.(*Mutex).Lock") && strings.Contains(g, function) {
				return
			}
		}
	}
}

// twice has a relay send what may have been handled once more, and an attempt take a second at most; failed is told of the first one's end.
func twice(r *Relay, failed func(x *between)) (bind func(*between)) {
	var x *between
	var once sync.Once
	r.Again = func(any, Failed) bool { once.Do(func() { failed(x) }); return true }
	r.Route = func(h *Headers) (*Upstream, error) {
		h.Replay, h.PerTry = 1<<10, time.Second
		return x.up, nil
	}
	return func(b *between) { x = b }
}

// What comes of an attempt while the next one begins is not taken for that one's: not its answer, its end, or the room that it makes.
func TestAttemptBeforeIsNotHeard(t *testing.T) {
	for what, late := range map[string]struct {
		in    string
		frame func(x *between) []byte
	}{
		"headers": {"(*stream).response", func(x *between) []byte {
			return appendList(nil, &x.server.enc, 1, 0, append(okHeaders[:2:2], newField("of", "the first")))
		}},
		"data":   {"(*stream).data", func(*between) []byte { return append(appendFrame(nil, 5, fData, 0, 1), "first"...) }},
		"reset":  {"(*stream).reset", func(*between) []byte { return appendU32(nil, fReset, 1, codeCancel) }},
		"window": {"(*stream).window", func(*between) []byte { return appendU32(nil, fWindow, 1, math.MaxInt32) }},
	} {
		t.Run(what, func(t *testing.T) {
			r := &Relay{}
			bind := twice(r, func(x *between) { // the stream's lock is held
				x.server.write(late.frame(x))
				awaitBlocked(late.in)
			})
			inBubble(t, r, func(x *between) {
				bind(x)
				x.client.request(1, true)
				if id, _ := x.take(); id != 1 {
					t.Fatal(id)
				}
				id, _ := x.take()
				synctest.Wait()
				x.server.write(appendList(appendList(nil, &x.server.enc, id, 0, append(okHeaders[:2:2], newField("of", "the second"))), &x.server.enc, id, flagEnd, okTrailers))
				if end := x.client.ending(1); id != 3 || end["grpc-status"] != "0" {
					t.Errorf("%d: %v", id, end)
				}
				x.settled()
			})
		})
	}
}

// A request with trailers is not sent once more without them.
func TestTrailersAreNotLost(t *testing.T) {
	r := &Relay{}
	bind := twice(r, func(*between) { t.Error("there was another attempt") })
	inBubble(t, r, func(x *between) {
		bind(x)
		x.client.request(1, false)
		id, _ := x.take()
		x.client.write(appendList(nil, &x.client.enc, 1, flagEnd, []Field{newField("checksum", "1")}))
		if _, h := x.take(); h["checksum"] != "1" {
			t.Error(h)
		}
		x.server.write(appendU32(nil, fReset, id, codeRefused))
		if typ, _, _ := x.client.until(1); typ != fReset {
			t.Error("frame type", typ)
		}
		x.settled()
	})
}

// A server that sends data before it answers breaks the rules: nothing of that reaches the client.
func TestDataBeforeAnswer(t *testing.T) {
	inBubble(t, &Relay{}, func(x *between) {
		x.client.request(1, true)
		id, _ := x.take()
		x.server.write(append(appendFrame(nil, 5, fData, 0, id), "early"...))
		if code, why := x.client.answer(1); code != "13" || why != ReasonMalformed {
			t.Error(code, why)
		}
		x.settled()
	})
}

// A connection whose stream ids are used up makes room for another one.
func TestStreamIDsEnd(t *testing.T) {
	e := newEnv(t, nil)
	call := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(do(), 5*time.Second)
		defer cancel()
		if _, err := unary(ctx, e.cc, nil); err != nil {
			t.Fatal(err)
		}
	}
	call()
	c := e.up.list()[0]
	c.mu.Lock()
	c.next = 1<<31 - 3
	c.mu.Unlock()
	for range 4 {
		call()
	}
	eventually(t, "the connection has ended", func() bool { return e.r.Stats().Upstream == 1 })
	if e.up.list()[0] == c {
		t.Error("it is the same")
	}
}

// Requests that wait for a place on a connection fail when it ends and there will be no other for now.
func TestWaitingIsToldOfTheEnd(t *testing.T) {
	var dials int
	r := &Relay{DialBackoff: time.Hour, MaxDialBackoff: time.Hour}
	var up *Upstream
	r.Route = func(*Headers) (*Upstream, error) { return up, nil }
	inBubble(t, r, func(x *between) {
		only, s := MemPipe(1 << 20)
		up = r.NewUpstream("one", 2, func(context.Context) (net.Conn, error) {
			if dials++; dials > 1 {
				return nil, errors.New("no more of them")
			}
			return only, nil
		})
		x.server = newRaw(t, s)
		x.server.write(appendSettings(nil, setMaxStreams, 1))
		x.client.request(1, true)
		x.take()
		x.client.request(3, true)
		synctest.Wait()
		if dials != 2 {
			t.Fatal(dials, "dials")
		}
		s.Close()
		for id, reason := range map[uint32]string{1: ReasonConnectionLost, 3: ReasonConnectFailed} {
			if code, why := x.client.answer(id); code != "14" || why != reason {
				t.Error(id, code, why)
			}
		}
		x.settled()
	})
}

// An upstream that is closed while it connects keeps no connection.
func TestClosedWhileConnecting(t *testing.T) {
	r := &Relay{}
	connected, closed := make(chan struct{}), make(chan struct{})
	var up *Upstream
	r.Route = func(*Headers) (*Upstream, error) { return up, nil }
	inBubble(t, r, func(x *between) {
		nc, s := MemPipe(1 << 20)
		defer s.Close()
		up = r.NewUpstream("slow", 1, func(context.Context) (net.Conn, error) {
			close(connected)
			<-closed
			return nc, nil
		})
		x.client.request(1, true)
		<-connected
		up.Close()
		close(closed)
		if code, _ := x.client.answer(1); code != "14" {
			t.Error(code)
		}
		time.Sleep(2 * time.Second) // it says first that it ends
		if n := r.Stats().Upstream; n != 0 {
			t.Error(n, "connections are open")
		}
	})
}
