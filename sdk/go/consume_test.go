package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const consumers = "sdk/go.(*consumer["

// well is a sidecar that tells a test what its client says, until that says no more.
func well(l *line, say func(*pubsubv1.SubscribeRequest)) error {
	for {
		m, err := l.said()
		if errors.Is(err, io.EOF) {
			say(nil)
			return nil
		}
		if err != nil {
			return err
		}
		say(m)
	}
}

// A sidecar that reads nothing takes no acknowledgement: the consumer ends all the same, and leaves nothing behind.
func TestConsumeWhereNothingIsRead(t *testing.T) {
	script := func(l *line) error {
		err := l.started()
		for i := 0; err == nil && i < 500; i++ { // what is said of them is more than the window takes
			err = l.deliver(fmt.Sprint(i, strings.Repeat("x", 1<<10)))
		}
		<-l.Context().Done()
		return err
	}
	bubble(t, script, func(t *testing.T, b *broken) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		begin := time.Time{}
		err := b.consume(ctx, func(context.Context, string) error {
			if n++; n == 500 {
				begin = time.Now()
				cancel()
			}
			return nil
		})
		if took := time.Since(begin); !errors.Is(err, context.Canceled) || took > 10*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		if left := leftovers(consumers); left != "" {
			t.Errorf("there are still\n%s", left)
		}
	})
}

// A sidecar that delivers more than it may is made to wait. It neither gets the consumer stuck nor has more handled at once.
func TestConsumeMoreThanCredit(t *testing.T) {
	script := func(l *line) error {
		err := l.started()
		for i := 0; err == nil && i < 5000; i++ {
			err = l.deliver(fmt.Sprint(i, strings.Repeat("x", 1<<10)))
		}
		<-l.Context().Done()
		return err
	}
	bubble(t, script, func(t *testing.T, b *broken) {
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		err := b.consume(ctx, func(_ context.Context, data string) error {
			if got = append(got, data); len(got) == 1000 {
				synctest.Wait() // until the sidecar can deliver no more
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) || len(got) != 1000 || !strings.HasPrefix(got[999], "999x") {
			t.Errorf("%v, %d handled", err, len(got))
		}
		if left := leftovers(consumers); left != "" {
			t.Errorf("there are still\n%s", left)
		}
	})
}

// However a stream ends early, the next ones come more and more seldom.
func TestConsumeFromASidecarThatOnlyFails(t *testing.T) {
	for name, script := range map[string]func(*line) error{
		"ends at once":       func(*line) error { return nil },
		"starts and ends":    func(l *line) error { return l.started() },
		"does not start":     func(l *line) error { return errors.Join(l.deliver("a"), l.deliver("b")) },
		"says nothing known": func(l *line) error { return l.nothing() },
		"fails":              func(l *line) error { return errors.Join(l.started(), errors.New("oops")) },
		"drains at once": func(l *line) error {
			return errors.Join(l.started(), l.draining(), well(l, func(*pubsubv1.SubscribeRequest) {}))
		},
		"has another last word": func(l *line) error { return status.Error(codes.Canceled, "") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, script, func(t *testing.T, b *broken) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := b.consume(ctx, func(_ context.Context, data string) error {
					t.Errorf("%q is handled", data)
					return nil
				})
				pauses := b.pauses()
				if !errors.Is(err, context.DeadlineExceeded) || len(pauses) < 20 || len(pauses) > 50 ||
					pauses[0] > 100*time.Millisecond || slices.Max(pauses) < 1600*time.Millisecond {
					t.Errorf("%v, pauses %v", err, pauses)
				}
			})
		})
	}
}

// A stream that was there for long is followed soon, however often that was before; one that is refused when the sidecar says.
func TestConsumeAgain(t *testing.T) {
	n := 0
	script := func(l *line) error {
		n++
		switch {
		case n == 11:
			return overloaded("busy", 20*time.Second)
		case n == 12:
			return overloaded("busy", time.Hour)
		case n == 13:
			return problem(codes.PermissionDenied, "DENIED", "no more")
		case n%2 == 1:
			return nil
		}
		err := l.started()
		select {
		case <-time.After(time.Minute):
		case <-l.Context().Done():
		}
		return err
	}
	bubble(t, script, func(t *testing.T, b *broken) {
		n = 0
		err := b.consume(t.Context(), func(context.Context, string) error { return nil })
		if client.Reason(err) != "DENIED" {
			t.Error(err)
		}
		pauses := b.pauses()
		for i, pause := range pauses {
			at := []time.Duration{0, time.Minute}[i%2]
			switch i {
			case 10:
				at = 20 * time.Second
			case 11:
				at = 30 * time.Second
			}
			if pause -= at; pause < 0 || pause > 150*time.Millisecond {
				t.Errorf("pause %d is longer by %v than it was to be: %v", i, pause, pauses)
			}
		}
	})
}

// What is under way when the context ends is settled, the sidecar is asked for no more, and what it has sent nevertheless goes back.
func TestConsumeHasLastWords(t *testing.T) {
	for name, end := range map[string]func(*line, context.CancelFunc) error{
		"ends":   func(_ *line, cancel context.CancelFunc) error { cancel(); return nil },
		"drains": func(l *line, _ context.CancelFunc) error { return l.draining() },
	} {
		t.Run(name, func(t *testing.T) {
			var ctx context.Context
			var cancel context.CancelFunc
			var said []string
			handling, goOn := make(chan struct{}), make(chan struct{})
			script := func(l *line) error {
				if err := errors.Join(l.started(), l.deliver("1")); err != nil {
					return err
				}
				<-handling
				if err := errors.Join(end(l, cancel), l.draining(), l.deliver("2"), l.nothing()); err != nil {
					return err
				}
				time.Sleep(time.Minute)
				close(goOn)
				err := well(l, func(m *pubsubv1.SubscribeRequest) {
					switch {
					case m == nil:
						said = append(said, "end")
					case m.GetExtend() != nil:
					default:
						said = append(said, m.String())
					}
				})
				cancel()
				return err
			}
			bubble(t, script, func(t *testing.T, b *broken) {
				ctx, cancel = context.WithCancel(t.Context())
				handling, goOn = make(chan struct{}), make(chan struct{})
				said = nil
				err := b.consume(ctx, func(_ context.Context, data string) error {
					if data != "1" {
						t.Errorf("%q is handled", data)
					}
					close(handling)
					<-goOn
					return nil
				})
				if got := strings.ReplaceAll(strings.Join(said, ", "), "  ", " "); !errors.Is(err, context.Canceled) || got != `credit:{}, nack:{delivery_id:"2"}, ack:{delivery_ids:"1"}, end` {
					t.Errorf("%v, it said %s", err, got)
				}
			})
		})
	}
}

// The context of a handler ends when the sidecar is lost, while it drains as well, and when the client is closed.
func TestConsumeTellsHandlersOfTheLoss(t *testing.T) {
	handling := make(chan struct{})
	loss := func(l *line) error {
		err := errors.Join(l.started(), l.deliver("1"))
		<-handling
		return err
	}
	for name, script := range map[string]func(*line) error{
		"lost": loss,
		"lost while it drains": func(l *line) error {
			err := errors.Join(l.started(), l.deliver("1"))
			<-handling
			err = errors.Join(err, l.draining())
			time.Sleep(time.Minute)
			return err
		},
		"closed": func(l *line) error {
			err := errors.Join(l.started(), l.deliver("1"))
			<-l.Context().Done()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, script, func(t *testing.T, b *broken) {
				handling = make(chan struct{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				want := context.Canceled
				err := b.consume(ctx, func(handler context.Context, _ string) error {
					close(handling)
					if name == "closed" {
						want = client.ErrClosed
						b.c.Close()
					}
					<-handler.Done()
					if ctx.Err() != nil {
						t.Error("it is only the end of all")
					}
					if name != "closed" {
						cancel()
					}
					return nil
				})
				if !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			})
		})
	}
}

// A reason that cannot be sent as it is does not keep the consumer from saying what it has to say.
func TestConsumeRejectsForAnyReason(t *testing.T) {
	var reason string
	var done context.CancelFunc
	script := func(l *line) error {
		if err := errors.Join(l.started(), l.deliver("1")); err != nil {
			return err
		}
		return well(l, func(m *pubsubv1.SubscribeRequest) {
			if m.GetReject() != nil {
				reason = m.GetReject().GetReason()
				done()
			}
		})
	}
	bubble(t, script, func(t *testing.T, b *broken) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		done = cancel
		err := b.consume(ctx, func(context.Context, string) error {
			return client.Reject(errors.New("not text: \xff" + strings.Repeat("ä", 1<<20)))
		})
		if !errors.Is(err, context.Canceled) || !utf8.ValidString(reason) || !strings.HasPrefix(reason, "not text: ä") || len(reason) > 1<<10 {
			t.Errorf("%v, %d bytes: %.20q", err, len(reason), reason)
		}
	})
}

// What is handled is extended three times in its deadline, what waits for a handler, too; then no more.
func TestConsumeExtends(t *testing.T) {
	extended := map[string]int{}
	script := func(l *line) error {
		if err := errors.Join(l.started(), l.deliver("1"), l.deliver("2")); err != nil {
			return err
		}
		return well(l, func(m *pubsubv1.SubscribeRequest) {
			if m.GetExtend() != nil {
				extended[m.GetExtend().GetDeliveryId()]++
			}
		})
	}
	bubble(t, script, func(t *testing.T, b *broken) {
		clear(extended)
		ctx, cancel := context.WithCancel(t.Context())
		_ = b.consume(ctx, func(_ context.Context, data string) error {
			time.Sleep(5*time.Minute + time.Second)
			if data == "2" {
				cancel()
			}
			return nil
		})
		if extended["1"] != 30 || extended["2"] != 60 {
			t.Errorf("they were extended %v times in ten deadlines, and in twenty", extended)
		}
	})
}

func TestConsumeRefuses(t *testing.T) {
	c := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target))
	event := func(context.Context, client.Event) error { return nil }
	firing := func(context.Context, client.Firing) error { return nil }
	for name, err := range map[string]error{
		"an event without a handler": c.PubSub("").Subscribe(within(t), "t", client.SubscribeOptions{}, nil),
		"events for less than none":  c.PubSub("").Subscribe(within(t), "t", client.SubscribeOptions{Concurrency: -1}, event),
		"a firing without a handler": c.Schedule("").Handle(within(t), client.HandleOptions{}, nil),
		"firings for less than none": c.Schedule("").Handle(within(t), client.HandleOptions{Concurrency: -1}, firing),
	} {
		if !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A sidecar whose leases are over when they begin gives no lock that is held, and ends nobody's process.
func TestALockWithoutALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, func(s *grpc.Server) { lockv1.RegisterLockServer(s, brokenLocks{}) })
		h, err := c.Lock("").Acquire(t.Context(), "l", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		<-h.Done()
		if !isLost(h.Err()) || !isLost(h.Unlock()) {
			t.Errorf("it is held: %v", h.Err())
		}
	})
}

// A process that was frozen when its turn came, for longer than the lease, goes on waiting.
func TestTheWaitForALockOutlastsAFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, func(s *grpc.Server) { lockv1.RegisterLockServer(s, &lateLocks{}) })
		h, err := c.Lock("").Acquire(t.Context(), "l", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if h.Token() != 2 || h.Unlock() != nil {
			t.Errorf("it has token %d, %v", h.Token(), h.Err())
		}
	})
}

func TestUnlockLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, func(s *grpc.Server) { lockv1.RegisterLockServer(s, brokenLocks{lease: time.Minute}) })
		for range 100 {
			h, err := c.Lock("").Acquire(t.Context(), "l", 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Unlock(); err != nil {
				t.Error(err)
			}
			if left := leftovers("sdk/go.(*HeldLock)"); left != "" {
				t.Fatalf("there are still\n%s", left)
			}
		}
	})
}
