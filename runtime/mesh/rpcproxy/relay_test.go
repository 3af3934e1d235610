package rpcproxy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

const patience = 10 * time.Second

func TestCallsOfManyClientsOverFewConnections(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.Addr())
		var tasks sync.WaitGroup
		const clients, calls = 8, 200
		for n := range clients {
			w := r.dial()
			tasks.Go(func() {
				for i := range calls { // all with the same ids
					w.Write(d.Request(uint64(i), false, patience, "echo", fmt.Sprint(n, "/", i)))
				}
				got := map[uint64]string{}
				for range calls {
					f, err := w.Next()
					if err != nil {
						t.Error(err)
						return
					}
					got[f.ID] = d.Body(f.Bytes)
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
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{Strip: "outrigger-"}, s.Addr())
		route := r.Route
		r.Route = func(k *rpcproxy.Call) (*rpcproxy.Upstream, error) {
			k.Set = append(k.Set, rpcproxy.Header{Name: "x-set", Value: "by " + k.Service + " " + k.Method}, rpcproxy.Header{Name: "outrigger-old", Value: k.Header("outrigger-old") + "+"})
			return route(k)
		}
		frame, err := d.AppendRequest(nil, d.Request(7, false, patience, "echo", "body"), 7, rpcproxy.Edit{Set: []rpcproxy.Header{{Name: "outrigger-old", Value: "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		w := r.dial()
		for range 3 {
			w.Write(frame)
			if f, err := w.Next(); err != nil || f.ID != 7 || !strings.Contains(d.Body(f.Bytes), "body") {
				t.Fatalf("answered %q, %v", f.Bytes, err)
			}
		}
		if want := []string{"by peer.Hello echo", "1+"}; !slices.Equal(s.Texts[:2], want) {
			t.Errorf("the server saw %q, want %q", s.Texts, want)
		}
	})
}

func TestErrorsAreAnsweredWithTheirText(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		dead := rpctest.DeadPort(t)
		for _, c := range []struct {
			name, method, address, flag, text string
			code                              int
		}{
			{"no route", "echo", "", rpcproxy.FlagNoRoute, "no instance of it", 14},
			{"connection refused", "echo", dead, rpcproxy.FlagConnectFailed, "cannot connect to " + dead, 14},
			{"connection lost", "drop", s.Addr(), rpcproxy.FlagClosed, "ended before the answer came", 14},
			{"timeout", "never", s.Addr(), rpcproxy.FlagTimeout, "the request was sent, no answer", 4},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := start(t, d, &rpcproxy.Relay{}, c.address)
				if c.address == "" {
					r.Route = func(*rpcproxy.Call) (*rpcproxy.Upstream, error) { return nil, errors.New("no instance of it") }
				}
				timeout := patience
				if c.method == "never" {
					timeout = 200 * time.Millisecond
				}
				f := r.dial().Call(t, 5, timeout, c.method, "x")
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
	t.Log("feature: bolt dubbo, a deadline or timeout is answered in time")
	t.Log("feature: bolt dubbo, answers that come too late are dropped")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.Addr())
		w := r.dial()
		if f := w.Call(t, 1, 30*time.Millisecond, "slow", ""); !strings.Contains(string(f.Bytes), "deadline exceeded") && f.Code != 4 {
			t.Fatalf("answered %q", f.Bytes)
		}
		rpctest.Eventually(t, func() error {
			if n := r.Stats().Late; n != 1 {
				return fmt.Errorf("%d late answers", n)
			}
			return nil
		})
		if f := w.Call(t, 1, patience, "echo", "mine"); !strings.Contains(d.Body(f.Bytes), "mine") {
			t.Errorf("the next call of that id is answered %q", f.Bytes)
		}
	})
}

func TestMarginAnswersBeforeTheDeadline(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		const whole = 2 * time.Second
		r := start(t, d, &rpcproxy.Relay{Margin: func(timeout time.Duration) time.Duration {
			if timeout != whole {
				t.Errorf("asked for the margin of %v", timeout)
			}
			return timeout - 20*time.Millisecond
		}}, s.Addr())
		begun := time.Now()
		r.dial().Call(t, 1, whole, "never", "")
		if waited := time.Since(begun); waited >= whole {
			t.Errorf("answered after %v", waited)
		}
	})
}

func TestRetryGoesToAnotherInstance(t *testing.T) {
	t.Log("feature: bolt dubbo, a call that was sent to nobody goes to another instance")
	t.Log("feature: bolt dubbo, what is not safe to repeat arrives at most once")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		good := rpctest.Serve(t, d)
		for _, c := range []struct {
			name, method, flag string
			sent               bool
		}{{"refused", "echo", rpcproxy.FlagConnectFailed, false}, {"closed", "drop", rpcproxy.FlagClosed, true}, {"busy", "busy", rpcproxy.FlagRefused, false}, {"late", "never", rpcproxy.FlagTimeout, true}} {
			t.Run(c.name, func(t *testing.T) {
				first := rpctest.DeadPort(t)
				if c.name != "refused" {
					first = rpctest.Serve(t, d).Addr()
				}
				var asked []string
				r := start(t, d, &rpcproxy.Relay{Again: func(k *rpcproxy.Call, e *rpcproxy.Error, status int) bool {
					asked = append(asked, fmt.Sprint(e.Flag, e.Sent))
					return k.Attempt == 1
				}}, first, good.Addr())
				route := r.Route
				r.Route = func(k *rpcproxy.Call) (*rpcproxy.Upstream, error) {
					if k.PerTry = 0; k.Attempt == 1 {
						k.PerTry = 100 * time.Millisecond
					}
					return route(k)
				}
				timeout := patience
				if c.method == "never" {
					timeout = time.Second
				}
				f := r.dial().Call(t, 1, timeout, c.method, "again")
				if c.name == "refused" && !strings.Contains(d.Body(f.Bytes), "again") {
					t.Errorf("answered %q", f.Bytes)
				}
				o := r.ended(1)[0]
				if o.Attempts != 2 || o.Upstream.Name != good.Addr() {
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
	t.Log("feature: bolt dubbo, one-way calls")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.Addr())
		w := r.dial()
		w.Write(d.Request(3, true, 0, "note", "x"))
		if f := w.Call(t, 4, patience, "echo", "y"); f.ID != 4 {
			t.Errorf("answered %+v", f)
		}
		o := r.ended(2)
		at := slices.IndexFunc(o, func(o rpcproxy.Outcome) bool { return o.Status == -1 }) // two goroutines tell of the two
		if at < 0 || o[at].Flag != "" || o[at].Attempts != 1 {
			t.Errorf("ended as %+v", o)
		}
		if n := s.Times("note"); n != 1 {
			t.Errorf("it arrived %d times", n)
		}
		r.Route = func(*rpcproxy.Call) (*rpcproxy.Upstream, error) { return nil, errors.New("no") }
		w.Write(d.Request(5, true, 0, "note", "x"))
		if f := w.Call(t, 6, patience, "echo", "y"); f.ID != 6 {
			t.Errorf("a one-way request is answered: %+v", f)
		}
	})
}

// A client that has sent a one-way request need not stay for it: it is sent when there is a connection.
func TestOneWayOutlivesItsClient(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := &rpcproxy.Relay{}
		gone := make(chan struct{})
		up := r.NewUpstream(s.Addr(), d, 1, func(ctx context.Context) (net.Conn, error) {
			select {
			case <-gone:
			case <-ctx.Done():
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr())
		})
		r.Route = func(*rpcproxy.Call) (*rpcproxy.Upstream, error) { return up, nil }
		in := start(t, d, r)
		w := in.dial()
		w.Write(d.Request(3, true, 0, "note", "x"))
		w.Write(d.Request(4, false, patience, "echo", "y"))
		rpctest.Eventually(t, func() error {
			if st := in.Stats(); st.Calls != 2 {
				return fmt.Errorf("%+v", st)
			}
			return nil
		})
		w.Conn.Close()
		in.ended(1) // that which has nobody left who waits for it
		close(gone)
		if o := in.ended(2); o[1].ByClient || o[1].Flag != "" || o[1].Sent == 0 {
			t.Errorf("ended as %+v", o[1])
		}
		rpctest.Eventually(t, func() error {
			if n, m := s.Times("note"), s.Times("echo"); n != 1 || m != 0 {
				return fmt.Errorf("they arrived %d and %d times", n, m)
			}
			return nil
		})
	})
}

func TestRouteThatComesLater(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.Addr())
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
		if f := w.Call(t, 1, patience, "echo", "here"); !strings.Contains(d.Body(f.Bytes), "here") {
			t.Errorf("answered %q", f.Bytes)
		}
		if f := w.Call(t, 2, 50*time.Millisecond, "other", ""); !strings.Contains(string(f.Bytes), "still waiting for an instance") {
			t.Errorf("answered %q", f.Bytes)
		}
	})
}

func TestDrainingLetsCallsEnd(t *testing.T) {
	t.Log("feature: bolt dubbo, draining lets calls end")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{Quiet: 20 * time.Millisecond}, s.Addr())
		w, idle := r.dial(), r.dial()
		idle.Call(t, 1, patience, "echo", "")
		w.Write(d.Request(8, false, patience, "slow", ""))
		rpctest.Eventually(t, func() error {
			if s.Times("slow") == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		if err := r.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		idle.Closed(t)
		for {
			f, err := w.Next()
			if err != nil {
				t.Fatal(err)
			}
			if f.Kind == rpcproxy.Response {
				if f.ID != 8 || !strings.Contains(d.Body(f.Bytes), "slow") {
					t.Errorf("answered %q", f.Bytes)
				}
				break
			}
		}
		w.Closed(t)
	})
}

func TestDrainingIsBounded(t *testing.T) {
	s := rpctest.Serve(t, rpctest.Bolt)
	r := start(t, rpctest.Bolt, &rpcproxy.Relay{}, s.Addr())
	w := r.dial()
	w.Write(rpctest.Bolt.Request(8, false, patience, "never", ""))
	rpctest.Eventually(t, func() error {
		if s.Times("never") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
	w.Closed(t)
}
