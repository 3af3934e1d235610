package rpcproxy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

const patience = 10 * time.Second

func TestCallsOfManyClientsOverFewConnections(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		s := serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.addr())
		var tasks sync.WaitGroup
		const clients, calls = 8, 200
		for n := range clients {
			w := r.dial()
			tasks.Go(func() {
				for i := range calls { // all with the same ids
					w.Write(d.request(uint64(i), false, patience, "echo", fmt.Sprint(n, "/", i)))
				}
				got := map[uint64]string{}
				for range calls {
					f, err := w.next()
					if err != nil {
						t.Error(err)
						return
					}
					got[f.ID] = d.body(f.Bytes)
				}
				for i := range calls {
					if body := got[uint64(i)]; !strings.HasSuffix(body, fmt.Sprint(n, "/", i)) && !strings.Contains(body, fmt.Sprint(n, "/", i)+"H") {
						t.Errorf("call %d of client %d is answered %q", i, n, body)
						return
					}
				}
			})
		}
		tasks.Wait()
		for _, o := range r.ended(clients * calls) {
			if o.Flag != "" || o.Code != 0 || o.Attempts != 1 || o.Received == 0 || o.Sent == 0 {
				t.Fatalf("ended as %+v", o)
			}
		}
		if st := r.Stats(); st.Upstream > 2 || st.Downstream != clients || st.Writes > clients*calls {
			t.Errorf("%+v: frames are not written together, or too many connections were made", st)
		}
	})
}

func TestHeadersAreSetAndStripped(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		s := serve(t, d)
		r := start(t, d, &rpcproxy.Relay{Strip: "outrigger-"}, s.addr())
		route := r.Route
		r.Route = func(k *rpcproxy.Call) (*rpcproxy.Upstream, error) {
			k.Set = append(k.Set, rpcproxy.Header{Name: "x-set", Value: "by " + k.Service + " " + k.Method}, rpcproxy.Header{Name: "outrigger-old", Value: k.Header("outrigger-old") + "+"})
			return route(k)
		}
		frame, err := d.AppendRequest(nil, d.request(7, false, patience, "echo", "body"), 7, rpcproxy.Edit{Set: []rpcproxy.Header{{Name: "outrigger-old", Value: "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		w := r.dial()
		for range 3 {
			w.Write(frame)
			if f, err := w.next(); err != nil || f.ID != 7 || !strings.Contains(d.body(f.Bytes), "body") {
				t.Fatalf("answered %q, %v", f.Bytes, err)
			}
		}
		if want := []string{"by peer.Hello echo", "1+"}; !slices.Equal(s.texts[:2], want) {
			t.Errorf("the server saw %q, want %q", s.texts, want)
		}
	})
}

func TestErrorsAreAnsweredWithTheirText(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		s := serve(t, d)
		dead := deadPort(t)
		for _, c := range []struct {
			name, method, address, flag, text string
			code                              int
		}{
			{"no route", "echo", "", rpcproxy.FlagNoRoute, "no instance of it", 14},
			{"connection refused", "echo", dead, rpcproxy.FlagConnectFailed, "cannot connect to " + dead, 14},
			{"connection lost", "drop", s.addr(), rpcproxy.FlagClosed, "ended before the answer came", 14},
			{"timeout", "never", s.addr(), rpcproxy.FlagTimeout, "the request was sent, no answer", 4},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := start(t, d, &rpcproxy.Relay{}, c.address)
				if c.address == "" {
					r.Route = func(*rpcproxy.Call) (*rpcproxy.Upstream, error) { return nil, errors.New("no instance of it") }
				}
				f := r.dial().call(t, 5, 200*time.Millisecond, c.method, "x")
				if !strings.Contains(string(f.Bytes), c.text) {
					t.Errorf("answered %q, want %q in it", f.Bytes, c.text)
				}
				if o := r.ended(1)[0]; o.Flag != c.flag || o.Code != c.code || o.Status != -1 {
					t.Errorf("ended as %+v", o)
				}
			})
		}
	})
}

func TestLateAnswersAreDropped(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		s := serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.addr())
		w := r.dial()
		if f := w.call(t, 1, 30*time.Millisecond, "slow", ""); !strings.Contains(string(f.Bytes), "deadline exceeded") && f.Code != 4 {
			t.Fatalf("answered %q", f.Bytes)
		}
		eventually(t, func() error {
			if n := r.Stats().Late; n != 1 {
				return fmt.Errorf("%d late answers", n)
			}
			return nil
		})
		if f := w.call(t, 1, patience, "echo", "mine"); !strings.Contains(d.body(f.Bytes), "mine") {
			t.Errorf("the next call of that id is answered %q", f.Bytes)
		}
	})
}

func TestMarginAnswersBeforeTheDeadline(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		s := serve(t, d)
		const whole = 2 * time.Second
		r := start(t, d, &rpcproxy.Relay{Margin: func(timeout time.Duration) time.Duration {
			if timeout != whole {
				t.Errorf("asked for the margin of %v", timeout)
			}
			return timeout - 20*time.Millisecond
		}}, s.addr())
		begun := time.Now()
		r.dial().call(t, 1, whole, "never", "")
		if waited := time.Since(begun); waited >= whole {
			t.Errorf("answered after %v", waited)
		}
	})
}

func TestRetryGoesToAnotherInstance(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		good := serve(t, d)
		for _, c := range []struct {
			name, method, flag string
			sent               bool
		}{{"refused", "echo", rpcproxy.FlagConnectFailed, false}, {"closed", "drop", rpcproxy.FlagClosed, true}, {"busy", "busy", rpcproxy.FlagRefused, false}, {"late", "never", rpcproxy.FlagTimeout, true}} {
			t.Run(c.name, func(t *testing.T) {
				first := deadPort(t)
				if c.name != "refused" {
					first = serve(t, d).addr()
				}
				var asked []string
				r := start(t, d, &rpcproxy.Relay{Again: func(k *rpcproxy.Call, e *rpcproxy.Error, status int) bool {
					asked = append(asked, fmt.Sprint(e.Flag, e.Sent))
					return k.Attempt == 1
				}}, first, good.addr())
				route := r.Route
				r.Route = func(k *rpcproxy.Call) (*rpcproxy.Upstream, error) {
					if k.PerTry = 0; k.Attempt == 1 {
						k.PerTry = 100 * time.Millisecond
					}
					return route(k)
				}
				timeout := 500 * time.Millisecond
				if c.name == "refused" {
					timeout = patience
				}
				f := r.dial().call(t, 1, timeout, c.method, "again")
				if c.name == "refused" && !strings.Contains(d.body(f.Bytes), "again") {
					t.Errorf("answered %q", f.Bytes)
				}
				o := r.ended(1)[0]
				if o.Attempts != 2 || o.Upstream.Name != good.addr() {
					t.Errorf("%d attempts, the last at %v", o.Attempts, o.Upstream)
				}
				if r.attempted[0] != first+" "+c.flag || !strings.HasPrefix(asked[0], fmt.Sprint(c.flag, c.sent)) {
					t.Errorf("attempts failed as %q, asked for another after %q", r.attempted, asked)
				}
			})
		}
	})
}

func TestOneWayIsSentOnceAndNotAnswered(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		s := serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.addr())
		w := r.dial()
		w.Write(d.request(3, true, 0, "note", "x"))
		if f := w.call(t, 4, patience, "echo", "y"); f.ID != 4 {
			t.Errorf("answered %+v", f)
		}
		if o := r.ended(2); o[0].Status != -1 || o[0].Flag != "" || o[0].Attempts != 1 {
			t.Errorf("ended as %+v", o[0])
		}
		if n := s.times("note"); n != 1 {
			t.Errorf("it arrived %d times", n)
		}
		r.Route = func(*rpcproxy.Call) (*rpcproxy.Upstream, error) { return nil, errors.New("no") }
		w.Write(d.request(5, true, 0, "note", "x"))
		if f := w.call(t, 6, patience, "echo", "y"); f.ID != 6 {
			t.Errorf("a one-way request is answered: %+v", f)
		}
	})
}

func TestRouteThatComesLater(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		s := serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.addr())
		route := r.Route
		var tasks sync.WaitGroup
		defer tasks.Wait()
		r.Route = func(k *rpcproxy.Call) (*rpcproxy.Upstream, error) {
			switch {
			case k.Resumed:
				return route(k)
			case k.Method == "echo":
				resume := k.Later()
				tasks.Go(resume)
			}
			return nil, rpcproxy.ErrLater
		}
		w := r.dial()
		if f := w.call(t, 1, patience, "echo", "here"); !strings.Contains(d.body(f.Bytes), "here") {
			t.Errorf("answered %q", f.Bytes)
		}
		if f := w.call(t, 2, 50*time.Millisecond, "other", ""); !strings.Contains(string(f.Bytes), "still waiting for an instance") {
			t.Errorf("answered %q", f.Bytes)
		}
	})
}

func TestDrainingLetsCallsEnd(t *testing.T) {
	both(t, func(t *testing.T, d dialect) {
		s := serve(t, d)
		r := start(t, d, &rpcproxy.Relay{Quiet: 20 * time.Millisecond}, s.addr())
		w, idle := r.dial(), r.dial()
		idle.call(t, 1, patience, "echo", "")
		w.Write(d.request(8, false, patience, "slow", ""))
		eventually(t, func() error {
			if s.times("slow") == 0 {
				return errClosed
			}
			return nil
		})
		if err := r.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		idle.closed(t)
		for {
			f, err := w.next()
			if err != nil {
				t.Fatal(err)
			}
			if f.Kind == rpcproxy.Response {
				if f.ID != 8 || !strings.Contains(d.body(f.Bytes), "slow") {
					t.Errorf("answered %q", f.Bytes)
				}
				break
			}
		}
		w.closed(t)
	})
}

func TestDrainingIsBounded(t *testing.T) {
	s := serve(t, boltDialect)
	r := start(t, boltDialect, &rpcproxy.Relay{}, s.addr())
	w := r.dial()
	w.Write(boltDialect.request(8, false, patience, "never", ""))
	eventually(t, func() error {
		if s.times("never") == 0 {
			return errClosed
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
	w.closed(t)
}
