package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/host"
)

// bubble runs a test of a host on a clock of its own.
func bubble(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close(context.Background())
		f(t, b)
	})
}

func (b *bench) start(t *testing.T, all ...config.Component) {
	t.Helper()
	if err := b.Start(t.Context(), conf(all...)); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) reload(t *testing.T, limit time.Duration, all ...config.Component) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	err := b.Reload(ctx, conf(all...))
	if took := time.Since(began); took > limit+time.Second {
		t.Errorf("the reload took %s, it had %s", took, limit)
	}
	return err
}

func required(c config.Component) config.Component { c.Required = true; return c }

func TestReloadWhoseAdditionFailsChangesNothing(t *testing.T) {
	for name, why := range map[string]error{"broken": errors.New("no such database"), "damaged": fmt.Errorf("file x: %w", components.ErrDamaged)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.b.opening = func(_ context.Context, n string) error {
					if n == name {
						return why
					}
					return nil
				}
				b.start(t, comp("a", "plain", "1"), comp("gone", "plain", "2"))
				added := comp("added", "plain", name)
				added.Required = name == "broken"
				err := b.reload(t, 10*time.Second, comp("a", "plain", "3"), comp("fine", "plain", "4"), added)
				if err == nil || !strings.Contains(err.Error(), why.Error()) || !strings.Contains(err.Error(), "f.yaml:1:1") {
					t.Fatalf("got %v, want the reason and the place", err)
				}
				b.expect(t, "a", "1")
				b.expect(t, "gone", "2")
				for _, c := range []string{"added", "fine"} {
					if _, err := b.fronts.Get(c); !errors.Is(err, components.ErrNotFound) {
						t.Errorf("%s: %v", c, err)
					}
				}
				if n := b.b.open.Load(); n != 2 {
					t.Errorf("%d instances are open, want the 2 of before", n)
				}
			})
		})
	}
}

// What is new may be referred to by what there was before.
func TestAddedComponentIsThereForTheChanged(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.start(t, comp("b", "plain", "1"))
		changed := comp("b", "plain", "2")
		resolve := changed.Resolve
		changed.Resolve = func(s func(string, string) (string, error)) (any, error) {
			if _, err := b.fronts.Get("a"); err != nil {
				return nil, err
			}
			return resolve(s)
		}
		if err := b.reload(t, time.Second, comp("a", "plain", "3"), changed); err != nil {
			t.Fatal(err)
		}
		b.expect(t, "b", "2")
	})
}

func TestFailingComponentIsMendedAtOnce(t *testing.T) {
	for _, drv := range []string{"plain", "sole"} {
		t.Run(drv, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.b.opening = func(ctx context.Context, name string) error {
					if name == "old" {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
				b.start(t, comp("a", drv, "old"))
				if err := b.reload(t, 10*time.Second, comp("a", drv, "new")); err != nil {
					t.Fatal(err)
				}
				b.expect(t, "a", "new")
				time.Sleep(time.Hour)
				b.expect(t, "a", "new")
				if s := b.States()[0]; s.State != "ready" || s.Error != "" {
					t.Errorf("admin says %+v", s)
				}
			})
		})
	}
}

// A component that could be opened as it was before, while the reload waits for another, is opened as it is now.
func TestReloadOvertakesAnOpening(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		began := time.Now()
		b.b.opening = func(_ context.Context, name string) error {
			switch {
			case name == "old" && time.Since(began) < time.Minute:
				return errors.New("connection refused")
			case name == "slow":
				time.Sleep(time.Hour)
			}
			return nil
		}
		b.start(t, comp("a", "plain", "old"), comp("b", "plain", "1"))
		if err := b.reload(t, 2*time.Hour, comp("a", "plain", "new"), comp("b", "plain", "slow")); err != nil {
			t.Fatal(err)
		}
		b.expect(t, "a", "new")
		b.expect(t, "b", "slow")
	})
}

func TestFailingComponentThatIsChangedForTheWorse(t *testing.T) {
	for _, drv := range []string{"plain", "sole"} {
		t.Run(drv, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.b.set(errors.New("connection refused"))
				b.start(t, comp("a", drv, "1"))
				if err := b.reload(t, 10*time.Second, comp("a", drv, "broken")); err == nil || !strings.Contains(err.Error(), "connection refused") {
					t.Fatalf("got %v, want the reason", err)
				}
				b.b.set(nil)
				time.Sleep(time.Minute)
				b.expect(t, "a", "1")
			})
		})
	}
}

// One that fails as before keeps nobody from changing others; it may still be made required only when it is ready.
func TestFailingComponentThatIsUnchanged(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.b.opening = func(_ context.Context, name string) error {
			if name == "down" {
				return errors.New("connection refused")
			}
			return nil
		}
		noSecret := comp("c", "plain", "1")
		noSecret.Resolve = func(func(string, string) (string, error)) (any, error) { return nil, errors.New("no secret x") }
		b.start(t, comp("a", "plain", "down"), comp("b", "plain", "1"), noSecret)
		if err := b.reload(t, 10*time.Second, comp("a", "plain", "down"), comp("b", "plain", "2"), noSecret); err != nil {
			t.Fatal(err)
		}
		b.expect(t, "b", "2")
		err := b.reload(t, 10*time.Second, required(comp("a", "plain", "down")), comp("b", "plain", "3"), noSecret)
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Fatalf("got %v, want the reason", err)
		}
		b.expect(t, "b", "2")
		if err := b.reload(t, 10*time.Second, comp("a", "plain", "down"), comp("b", "plain", "2"), comp("c", "plain", "1")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		b.expect(t, "c", "1") // its secret is there now
	})
}

// A call that does not end keeps a component, whose instances exclude each other, as it is; nothing is closed under the call.
func TestReloadDoesNotWaitForACallForEver(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.start(t, comp("a", "sole", "1"))
		f, _ := b.fronts.Get("a")
		called := make(chan error, 1)
		go func() {
			_, err := f.call(context.Background(), time.Hour)
			called <- err
		}()
		synctest.Wait()
		if err := b.reload(t, 10*time.Second, comp("a", "sole", "2")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		b.expect(t, "a", "1")
		if err := b.reload(t, 2*time.Hour, comp("a", "sole", "2")); err != nil {
			t.Fatal(err)
		}
		if err := <-called; err != nil {
			t.Error(err)
		}
		b.expect(t, "a", "2")
	})
}

func TestReloadDoesNotWaitForADriverForEver(t *testing.T) {
	for _, stuck := range []string{"opening", "closing"} {
		t.Run(stuck, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				release := make(chan struct{})
				if stuck == "opening" {
					b.b.opening = func(_ context.Context, name string) error {
						if name == "rude" {
							<-release
						}
						return nil
					}
				} else {
					b.b.closing = func(name string) {
						if name == "rude" {
							<-release
						}
					}
				}
				b.start(t, comp("a", "sole", "rude"), comp("b", "plain", "1"))
				if err := b.reload(t, 10*time.Second, comp("a", "sole", "2"), comp("b", "plain", "2")); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("got %v", err)
				}
				b.expect(t, "b", "1")
				if err := b.reload(t, 10*time.Second, comp("b", "plain", "3")); err != nil {
					t.Fatal(err)
				}
				b.expect(t, "b", "3")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := b.Close(ctx); err != nil {
					t.Error(err)
				}
				close(release)
				synctest.Wait()
				if n := b.b.open.Load(); n != 0 {
					t.Errorf("%d instances are open", n)
				}
			})
		})
	}
}

// Close leaves nothing behind that a reload began.
func TestCloseWaitsForWhatWasReplaced(t *testing.T) {
	for limit, waits := range map[time.Duration]bool{time.Hour: true, time.Second: false} {
		bubble(t, func(t *testing.T, b *bench) {
			b.start(t, comp("a", "plain", "1"))
			f, _ := b.fronts.Get("a")
			called := make(chan error, 1)
			go func() {
				_, err := f.call(context.Background(), time.Minute)
				called <- err
			}()
			synctest.Wait()
			if err := b.reload(t, time.Second, comp("a", "plain", "2")); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			b.Close(ctx)
			if n := b.b.open.Load(); n != 0 {
				t.Errorf("%d instances are open after Close with %s", n, limit)
			}
			if err := <-called; (err == nil) != waits {
				t.Errorf("with %s the call ended with %v", limit, err)
			}
		})
	}
}

func TestNothingIsOpenedBeforeStartOrAfterClose(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		if err := b.reload(t, time.Second, comp("a", "plain", "1")); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("before the start: %v", err)
		}
		b.start(t, comp("a", "plain", "2"))
		b.Close(t.Context())
		if err := b.reload(t, time.Second, comp("a", "plain", "3")); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("after the end: %v", err)
		}
		if err := b.Start(t.Context(), conf(comp("a", "plain", "4"))); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("after the end: %v", err)
		}
		if !slices.Equal(b.b.opened, []string{"2"}) {
			t.Errorf("opened %v", b.b.opened)
		}
	})
}

// vault is a front of secrets: each has its component's value.
type vault struct {
	c *components.Component[*driver]
}

func (v vault) Reveal(ctx context.Context, _ string) (text string, err error) {
	call, err := v.c.Begin(ctx, "reveal")
	if err != nil {
		return "", err
	}
	defer call.End(&err)
	return call.Driver.name, nil
}

// A component that refers to a secret component gets the value that this has after the same reload.
func TestReloadOfASecretReachesThoseThatReferToIt(t *testing.T) {
	b := &backend{}
	var vaults *host.Fronts[vault]
	h := host.New(host.Options{Logger: slog.New(slog.DiscardHandler), Secret: func(ctx context.Context, component, key string) (string, error) {
		v, err := vaults.Get(component)
		if err != nil {
			return "", err
		}
		return v.Reveal(ctx, key)
	}})
	defer h.Close(context.Background())
	drivers := func(capability string) *components.Registry[*driver] {
		r := components.NewPrivateRegistry[*driver](capability)
		components.Register(r, "plain", options{}, func(ctx context.Context, _ components.Env, o options) (*driver, error) { return b.dial(ctx, o.name) })
		return r
	}
	vaults = host.Add(h, drivers("secret"), func(c *components.Component[*driver]) vault { return vault{c} })
	tests := host.Add(h, drivers("test"), func(c *components.Component[*driver]) front { return front{c, &b.ended} })
	all := func(value, name string) *config.Config {
		secret, a := comp("vault", "plain", value), comp(name, "plain", "")
		secret.Capability = "secret"
		a.Resolve = func(secret func(string, string) (string, error)) (any, error) {
			text, err := secret("vault", "k")
			return options{"with " + text}, err
		}
		return &config.Config{Components: []config.Component{a, secret}, SecretsFirst: []string{"vault"}}
	}
	if err := h.Start(t.Context(), all("1", "a")); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{{"2", "a"}, {"3", "added"}} {
		value, name := r[0], r[1]
		if err := h.Reload(t.Context(), all(value, name)); err != nil {
			t.Fatal(err)
		}
		f, err := tests.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.call(t.Context(), 0); err != nil || got != "with "+value {
			t.Errorf("it answers %q, %v; the secret is %s", got, err, value)
		}
	}
}
