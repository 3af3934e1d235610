package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// callFor calls a component for so long, a hundred times a second.
func (b *bench) callFor(t *testing.T, name string, d time.Duration) {
	t.Helper()
	f, err := b.fronts.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		_, _ = f.call(t.Context(), 10*time.Millisecond)
	}
}

func (b *bench) expectState(t *testing.T, state string, err error) {
	t.Helper()
	why := ""
	if err != nil {
		why = err.Error()
	}
	if s := b.States()[0]; s.State != state || s.Error != why {
		t.Errorf("it is %s (%s), want %s (%s)", s.State, s.Error, state, why)
	}
}

// Who is called and cannot serve is seen to be failing at once, and to be well again as soon as it is.
func TestFailedCallsHaveTheComponentChecked(t *testing.T) {
	for _, kind := range []error{components.ErrExhausted, components.ErrUnavailable, components.ErrDamaged} {
		bubble(t, func(t *testing.T, b *bench) {
			ill := fmt.Errorf("%w: that is how it is", kind)
			b.start(t, comp("a", "plain", "1"))
			time.Sleep(3 * time.Second)
			b.b.sicken(ill)
			time.Sleep(2 * time.Second)
			b.expectState(t, "ready", nil) // nobody has called it
			b.callFor(t, "a", time.Second)
			b.expectState(t, "failing", ill)
			before := b.b.checks.Load()
			b.callFor(t, "a", 20*time.Second)
			if n := b.b.checks.Load() - before; n < 10 || n > 21 {
				t.Errorf("%d checks in 20 s", n)
			}
			time.Sleep(5 * time.Second) // and nobody calls it any more
			b.b.sicken(nil)
			time.Sleep(1100 * time.Millisecond)
			b.expectState(t, "ready", nil)
		})
	}
}

// One that is called tells of the others that may stand on the same back end, before it is their turn.
func TestOthersOfTheDriverAreChecked(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		ill := fmt.Errorf("%w: that is how it is", components.ErrUnavailable)
		b.start(t, comp("a", "plain", "1"), comp("b", "plain", "2"), comp("c", "other", "3"))
		time.Sleep(1500 * time.Millisecond)
		b.b.sicken(ill)
		b.callFor(t, "a", 10*time.Millisecond)
		time.Sleep(1500 * time.Millisecond)
		states := map[string]string{}
		for _, s := range b.States() {
			states[s.Name] = s.State
		}
		if states["a"] != "failing" || states["b"] != "failing" || states["c"] != "ready" {
			t.Errorf("a is called, b is of its driver, c of another: %v", states)
		}
	})
}

// Calls that fail for what is asked cost no check.
func TestCallsThatFailForThemselves(t *testing.T) {
	for _, kind := range []error{components.ErrNotFound, components.ErrConflict, context.Canceled, fmt.Errorf("it is none: %w", components.ErrInvalid)} {
		bubble(t, func(t *testing.T, b *bench) {
			b.start(t, comp("a", "plain", "1"))
			b.b.sicken(kind)
			b.callFor(t, "a", 5*time.Second)
			if n := b.b.checks.Load(); n != 0 {
				t.Errorf("%v: %d checks", kind, n)
			}
		})
	}
}

var errRotten = fmt.Errorf("file x: %w", components.ErrDamaged)

// The start's first look decides, however long it takes; Start itself does not wait for it.
func TestWhatNoRepetitionMendsIsFoundLate(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.b.opening = func(context.Context, string) error {
			time.Sleep(20 * time.Second)
			return errRotten
		}
		b.start(t, comp("a", "plain", "1"))
		select {
		case err := <-b.Failed():
			if text := fmt.Sprint(err); !strings.Contains(text, `f.yaml:1:1: test "a" cannot be opened: file x`) {
				t.Errorf("it failed with %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("nothing is said")
		}
		b.expectState(t, "failing", errRotten)
	})
}

// A sidecar that has served others goes on.
func TestWhatGoesBadLaterEndsNothing(t *testing.T) {
	for name, goBad := range map[string]func(t *testing.T, b *bench){
		"at another attempt": func(t *testing.T, b *bench) {
			b.b.set(errors.New("connection refused"))
			b.start(t, comp("a", "plain", "1"))
			b.b.set(errRotten)
		},
		"when it was open": func(t *testing.T, b *bench) {
			b.start(t, comp("a", "plain", "1"))
			b.b.sicken(errRotten)
		},
		"when it came with a reload": func(t *testing.T, b *bench) {
			b.b.opening = func(context.Context, string) error {
				time.Sleep(20 * time.Second)
				return errRotten
			}
			b.start(t)
			if err := b.reload(t, 10*time.Second, comp("a", "plain", "1")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				goBad(t, b)
				time.Sleep(time.Minute)
				b.expectState(t, "failing", errRotten)
				if said := b.log.String(); name == "when it came with a reload" && !strings.Contains(said, "trying again in the background") {
					t.Errorf("it is logged: %s", said)
				}
				select {
				case err := <-b.Failed():
					t.Errorf("it ends with %v", err)
				default:
				}
			})
		})
	}
}

// One that is required is not waited for any longer than it takes to know.
func TestRequiredComponentThatIsFoundHopeless(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.b.opening = func(context.Context, string) error {
			time.Sleep(3 * time.Second)
			return errRotten
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := b.Start(ctx, conf(required(comp("a", "plain", "1")))); !errors.Is(err, components.ErrDamaged) || ctx.Err() != nil {
			t.Errorf("it failed with %v", err)
		}
	})
}
