package grpcproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestHeaderLimits(t *testing.T) {
	e := newEnv(t, nil)
	big := client(t, e.addr, grpc.WithMaxHeaderListSize(1<<20))
	defer big.Close()
	if _, err := unary(do("do", "bigheader"), big, nil); status.Code(err) != codes.ResourceExhausted && status.Code(err) != codes.Internal {
		t.Fatal(err)
	}
	c := rawClient(t, e.addr) // grpc-go would not send it: its peer's limit is known to it
	c.request(1, true, "a", strings.Repeat("x", 9000), "b", strings.Repeat("y", 9000))
	if got := c.status(1); got != "8" {
		t.Fatal("grpc-status", got)
	}
	c.request(3, true, "q", "1") // the connection, and its compression state, go on
	if got := c.status(3); got != "0" {
		t.Fatal("grpc-status", got)
	}
}

func TestRapidReset(t *testing.T) {
	e := newEnv(t, nil)
	c := rawClient(t, e.addr)
	var b []byte
	for i := range 5000 {
		b = c.appendRequest(b[:0], uint32(2*i+1), false, "do", "hang")
		if c.write(appendU32(b, fReset, uint32(2*i+1), codeCancel)) != nil {
			break
		}
	}
	c.goAway(codeCalm)
	e.empty()
	if n := e.live.Load(); n > 2200 {
		t.Fatal("routed ", n)
	}
}

// TestProvokedResets: a client that has its streams reset, by a fault on each, is no better than one that resets them itself.
func TestProvokedResets(t *testing.T) {
	for name, fault := range map[string]func(id uint32) []byte{
		"no window":       func(id uint32) []byte { return appendU32(nil, fWindow, id, 0) },
		"window overflow": func(id uint32) []byte { return appendU32(nil, fWindow, id, 1<<31-1) },
		"priority": func(id uint32) []byte {
			return append(appendFrame(nil, 5, fPriority, 0, id), 0, 0, byte(id>>8), byte(id), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, nil)
			c := rawClient(t, e.addr)
			var b []byte
			for i := range 5000 {
				id := uint32(2*i + 1)
				b = append(c.appendRequest(b[:0], id, false, "do", "hang"), fault(id)...)
				if c.write(b) != nil {
					break
				}
			}
			c.goAway(codeCalm)
			e.empty()
			if n := e.live.Load(); n > 2200 {
				t.Fatal("routed ", n)
			}
		})
	}
}

func TestContinuationFlood(t *testing.T) {
	e := newEnv(t, nil)
	c := rawClient(t, e.addr)
	c.write(append(appendFrame(nil, 1, fHeaders, 0, 1), 0x82))
	for range 100000 {
		if c.write(append(appendFrame(nil, 100, fContinuation, 0, 1), make([]byte, 100)...)) != nil {
			break
		}
	}
	c.goAway(codeCalm)
	_ = e
}

func TestFloods(t *testing.T) {
	t.Log("feature: grpc, what is broken, garbage or too slow costs its own connection alone")
	for name, f := range map[string][]byte{
		"ping":     append(appendFrame(nil, 8, fPing, 0, 0), make([]byte, 8)...),
		"settings": appendSettings(nil, setWindow, 70000),
		"priority": append(appendFrame(nil, 5, fPriority, 0, 1), make([]byte, 5)...),
		"unknown":  appendFrame(nil, 0, 77, 0, 1),
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, nil)
			c := rawClient(t, e.addr)
			go func() {
				for range 2000 {
					if c.write(bytes.Repeat(f, 100)) != nil {
						return
					}
				}
			}()
			c.goAway(codeCalm)
			_ = e
		})
	}
}

func TestProtocolErrors(t *testing.T) {
	for name, f := range map[string]func(c *raw){
		"even stream":       func(c *raw) { c.request(2, true) },
		"data on idle":      func(c *raw) { c.write(appendFrame(nil, 0, fData, 0, 99)) },
		"stream 0":          func(c *raw) { c.write(appendFrame(nil, 0, fData, 0, 0)) },
		"big frame":         func(c *raw) { c.write(appendFrame(nil, 1<<20, fData, 0, 1)) },
		"bad hpack":         func(c *raw) { c.write(append(appendFrame(nil, 2, fHeaders, 4, 1), 0xff, 0xff)) },
		"push":              func(c *raw) { c.write(appendFrame(nil, 0, fPush, 4, 1)) },
		"window overflow":   func(c *raw) { c.write(appendU32(nil, fWindow, 0, 1<<31-1)) },
		"padding":           func(c *raw) { c.write(append(appendFrame(nil, 1, fData, flagPadded, 1), 9)) },
		"lone continuation": func(c *raw) { c.write(appendFrame(nil, 0, fContinuation, 4, 1)) },
		"overrun": func(c *raw) {
			c.request(1, false, "do", "hang")
			for range 400 {
				c.write(append(appendFrame(nil, maxFrame, fData, 0, 1), make([]byte, maxFrame)...))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, nil)
			c := rawClient(t, e.addr)
			f(c)
			c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
			for {
				typ, _, _, err := c.read()
				if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
					t.Fatal(err)
				}
				if err != nil || typ == fGoAway || typ == fReset {
					break
				}
			}
			if _, err := unary(do(), e.cc, nil); err != nil {
				t.Fatal(err)
			}
			c.nc.Close()
			e.empty()
		})
	}
	for name, kv := range map[string][]string{"upper case": {"Abc", "x"}, "connection": {"connection", "close"}, "te": {"te", "gzip"},
		"newline": {"a", "b\nc"}, "late pseudo": {"a", "b", ":path", "/x"}, "unknown pseudo": {":foo", "x"}, "status": {":status", "200"}} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, nil)
			c := rawClient(t, e.addr)
			c.request(1, true, kv...)
			if typ, _, p := c.until(1); typ != fReset || p[3] != codeProtocol {
				t.Fatal(typ, p)
			}
		})
	}
}

// TestManyGiveUpAtOnce is what a callee that hangs makes of honest clients: they all end their calls together.
func TestManyGiveUpAtOnce(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.MaxResets = 100 })
	ctx, cancel := context.WithCancel(do("do", "hang"))
	var calls sync.WaitGroup
	for range 900 {
		calls.Go(func() { unary(ctx, e.cc, nil) })
	}
	eventually(t, "all calls hang", func() bool { return e.live.Load() == 900 })
	time.Sleep(200 * time.Millisecond)
	cancel()
	calls.Wait()
	if _, err := unary(do(), e.cc, []byte("after")); err != nil {
		t.Fatal(err)
	}
	if n := e.r.Stats().Faults; n != 0 {
		t.Fatalf("%d connections were closed for it", n)
	}
}

// A client that dribbles a frame, or a list of headers, loses its connection after a while; one that sends whole frames slowly does not.
func TestSlowFrames(t *testing.T) {
	t.Log("feature: grpc, what is broken, garbage or too slow costs its own connection alone")
	half := append(appendFrame(nil, 1000, fHeaders, flagEndHeaders, 1), 0x82)
	for name, c := range map[string]struct {
		begin, more []byte
		stays       bool
	}{
		"half a frame":          {half, nil, false},
		"a frame that dribbles": {half, []byte{0x82}, false},
		"headers without end":   {append(appendFrame(nil, 1, fHeaders, 0, 1), 0x82), nil, false},
		"headers that dribble":  {append(appendFrame(nil, 1, fHeaders, 0, 1), 0x82), append(appendFrame(nil, 1, fContinuation, 0, 1), 0x82), false},
		"whole frames":          {nil, append(appendFrame(nil, 8, fPing, 1, 0), make([]byte, 8)...), true},
		"nothing":               {nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, func(r *Relay) { r.FrameTimeout = 100 * time.Millisecond })
			c1 := rawClient(t, e.addr)
			c1.write(c.begin)
			c1.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
			if c.stays {
				c1.nc.SetReadDeadline(time.Now().Add(time.Second))
			}
			ended := make(chan struct{})
			defer close(ended)
			go func() {
				for tick := time.NewTicker(40 * time.Millisecond); ; {
					select {
					case <-ended:
						return
					case <-tick.C:
						c1.write(c.more)
					}
				}
			}()
			var err error
			for err == nil {
				var typ byte
				if typ, _, _, err = c1.read(); err == nil && typ == fGoAway {
					t.Error("it was sent away for another reason")
				}
			}
			if stayed := errors.Is(err, os.ErrDeadlineExceeded); stayed != c.stays {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}
