package policy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	conf "github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// component is a front in the hands of a test.
type component struct {
	mu   sync.Mutex
	last *conf.Change // what it says at the beginning of a watch; nil: it is away
	feed chan conf.Change
	cut  chan error
}

func newComponent() *component {
	return &component{feed: make(chan conf.Change), cut: make(chan error)}
}

var errAway = fmt.Errorf("%w: connection refused", components.ErrUnavailable)

func (c *component) Watch(ctx context.Context, _ components.Caller, sel conf.Selection, send func(conf.Message) error) error {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last == nil {
		return errAway
	}
	if len(sel.Keys) != 1 || sel.Keys[0] != "policies" {
		return errors.New("another key")
	}
	if err := send(conf.Message{Initial: true, Changes: []conf.Change{*last}}); err != nil {
		return err
	}
	for {
		select {
		case change := <-c.feed:
			if err := send(conf.Message{Changes: []conf.Change{change}}); err != nil {
				return err
			}
		case err := <-c.cut:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func is(version, text string) *conf.Change {
	return &conf.Change{Key: "policies", Item: conf.Item{Key: "policies", Value: []byte(text), Version: version}}
}

func share(percent int) string {
	return fmt.Sprintf("migration: [{service: stock, mesh: %d%%}]\n", percent)
}

// bed is a keeper and what calls see of it.
type bed struct {
	t    *testing.T
	c    *component
	k    *policy.Keeper
	opts policy.Options
	e    *mesh.Router
	log  bytes.Buffer
}

// both is a service with an instance behind a sidecar and one without.
type both struct{}

func (both) Watch(ctx context.Context, _ mesh.Service, report func([]mesh.Instance) error) error {
	if err := report([]mesh.Instance{{Address: "sidecar:1", Weight: 100}, {Address: "app:1", Weight: 100, Direct: true}}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func newBed(t *testing.T, c *component) *bed {
	b := &bed{t: t, c: c}
	b.opts = policy.Options{Table: &mesh.Table{}, Caller: components.Caller{Namespace: "shop", App: "orders"},
		Own:    mesh.Policies{Defaults: mesh.DefaultRule(), Migration: []mesh.Migration{{Service: "stock", Mesh: 10_000}}},
		From:   config.PoliciesFrom{Component: "central", Key: "policies"},
		Config: func(string) (policy.Component, error) { return c, nil },
		File:   filepath.Join(t.TempDir(), "mesh", "p.json"), Logger: slog.New(slog.NewTextHandler(&b.log, nil))}
	return b
}

func (b *bed) open() {
	b.t.Helper()
	if b.e != nil {
		b.e.Directory.Close()
	}
	b.opts.Table = &mesh.Table{}
	d := mesh.NewDirectory(both{}, slog.New(slog.DiscardHandler))
	b.e = &mesh.Router{Directory: d, Policies: b.opts.Table, MaxHops: 4}
	d.Find(mesh.Service{Namespace: "shop", Name: "stock"})
	k, err := policy.Open(b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.k = k
	b.t.Cleanup(b.close) // also where the test fails
	synctest.Wait()
}

func (b *bed) close() {
	b.k.Close()
	b.e.Directory.Close()
}

// want holds where all of a hundred calls go, and what is shown.
func (b *bed) want(address, version, refused string, stale bool) {
	b.t.Helper()
	for range 100 {
		p, err := b.e.Route(&mesh.Request{Service: mesh.Service{Namespace: "shop", Name: "stock"}})
		if err != nil {
			b.t.Fatal(err)
		}
		a, err := p.Next()
		if err != nil {
			b.t.Fatal(err)
		}
		a.Report(mesh.Answered)
		if got := a.Instance().Address; got != address {
			b.t.Fatalf("a call goes to %s, not to %s", got, address)
		}
	}
	now := b.k.State()
	x := b.e.Explain(&mesh.Request{Service: mesh.Service{Namespace: "shop", Name: "stock"}})
	source := ""
	if version != "" {
		source = "config central/policies"
	}
	if now.Version != version || now.Source != source || now.Stale != stale || !strings.Contains(now.Refused, refused) || (refused == "") != (now.Refused == "") ||
		x.Policies != now.Origin {
		b.t.Fatalf("state %+v, explained %+v; want version %q, refused %q, stale %v", now, x.Policies, version, refused, stale)
	}
}

func (b *bed) say(c *conf.Change) {
	b.t.Helper()
	b.c.feed <- *c
	synctest.Wait()
}

const sidecarOnly, appOnly = "sidecar:1", "app:1"

func TestFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, newComponent())
		b.c.last = &conf.Change{Key: "policies", Deleted: true}
		b.open()
		defer b.close()
		b.want(sidecarOnly, "", "", false) // the file's own
		b.say(is("v1", share(0)))
		b.want(appOnly, "v1", "", false)
		b.say(is("v2", "migration: [{service: stock, mesh: 100%}]\nroutes: [{service: stock, timeuot: 1s}]\n"))
		b.want(appOnly, "v1", `config central/policies:2:27: unknown field "routes.0.timeuot"`, false)
		b.say(is("v2", "migration: [{service: stock, mesh: 100%}]\nroutes: [{service: stock, timeuot: 1s}]\n")) // again, after a reconnect
		b.say(is("v3", ""))
		b.want(appOnly, "v1", "empty", false)
		b.say(is("v4", share(100)))
		b.want(sidecarOnly, "v4", "", false)
		b.say(is("v5", "defaults: {retry: {attempts: 0}}"))
		b.want(sidecarOnly, "v4", "attempts", false)
		b.say(is("v4", share(100))) // back to what is in force
		b.want(sidecarOnly, "v4", "", false)
		b.say(is("v6", share(0)))
		b.want(appOnly, "v6", "", false)
		b.say(&conf.Change{Key: "policies", Deleted: true})
		b.want(sidecarOnly, "", "", false)
		if n := b.k.State().Changes; n != (policy.Changes{Applied: 4, Refused: 3}) {
			t.Errorf("counted %+v", n)
		}
		if n := strings.Count(b.log.String(), "were refused"); n != 3 {
			t.Errorf("logged %d times:\n%s", n, &b.log)
		}
	})
}

// The last good text stays while the component is away, and over a start then; what comes after is taken over.
func TestStaysWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, newComponent())
		b.c.last = is("v1", share(0))
		b.open()
		b.want(appOnly, "v1", "", false)
		b.c.mu.Lock()
		b.c.last = nil
		b.c.mu.Unlock()
		b.c.cut <- errAway
		synctest.Wait()
		b.want(appOnly, "v1", "", false)
		if s := b.k.State(); !strings.Contains(s.Away, "connection refused") {
			t.Errorf("state %+v", s)
		}
		b.k.Close()
		b.open()
		b.k.Wait(t.Context()) // for nothing: something is known
		b.want(appOnly, "v1", "", true)
		b.c.mu.Lock()
		b.c.last = is("v1", share(0))
		b.c.mu.Unlock()
		time.Sleep(2 * time.Second)
		b.want(appOnly, "v1", "", false)
		b.say(is("v2", share(100)))
		b.want(sidecarOnly, "v2", "", false)
		if n := strings.Count(b.log.String(), "cannot be followed"); n != 2 {
			t.Errorf("said %d times that it is away:\n%s", n, &b.log)
		}
		b.close()
	})
}

// Another key's policies, and those that cannot be read, are not taken for those of this one.
func TestKeptOfAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, newComponent())
		b.c.last = is("v1", share(0))
		b.open()
		b.close()
		b.c.last = nil
		b.opts.From.Key = "other"
		b.open()
		b.want(sidecarOnly, "", "", false)
		b.close()
		b.opts.From.Key = "policies"
		if err := os.WriteFile(b.opts.File, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		b.open()
		b.want(sidecarOnly, "", "", false)
		if !strings.Contains(b.log.String(), "cannot be read") {
			t.Errorf("logged:\n%s", &b.log)
		}
		b.close()
	})
}

// What the component only remembers is used if nothing better is known, and is not taken for news.
func TestStaleAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, newComponent())
		b.c.last = is("v0", share(0))
		b.c.last.Item.Stale = true
		b.open()
		defer b.close()
		b.want(appOnly, "v0", "", true)
		b.say(is("v1", share(100)))
		b.want(sidecarOnly, "v1", "", false)
		old := is("v0", share(0))
		old.Item.Stale = true
		b.say(old)
		b.want(sidecarOnly, "v1", "", false)
	})
}

// The file's policies can change below the component's, if both fit together.
func TestRebase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, newComponent())
		b.c.last = is("v1", "defaults: {retry: {per_try: 2s}}\n")
		b.open()
		defer b.close()
		b.want(sidecarOnly, "v1", "", false)
		own := b.opts.Own
		own.Defaults.Timeout = time.Second // shorter than what one attempt may take
		own.Migration = nil
		if err := b.k.Rebase(own); err == nil || !strings.Contains(err.Error(), "per_try") {
			t.Errorf("taken over: %v", err)
		}
		b.want(sidecarOnly, "v1", "", false)
		b.say(is("v2", "defaults: {retry: {per_try: 3s}}\n")) // it fits to the file's as they were, which are below it still
		b.want(sidecarOnly, "v2", "", false)
		own.Defaults.Timeout = 4 * time.Second
		own.Migration = []mesh.Migration{{Service: "stock", Mesh: 0}}
		if err := b.k.Rebase(own); err != nil {
			t.Fatal(err)
		}
		b.want(appOnly, "v2", "", false)
	})
}

// A sidecar without a component has its file's policies, and waits for nobody.
func TestWithoutComponent(t *testing.T) {
	b := newBed(t, newComponent())
	b.opts.From = config.PoliciesFrom{}
	k, err := policy.Open(b.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.Wait(context.Background())
	if s := k.State(); s != (policy.State{}) {
		t.Errorf("state %+v", s)
	}
	b.opts.Own = mesh.Policies{}
	if _, err := policy.Open(b.opts); !errors.Is(err, components.ErrInvalid) {
		t.Errorf("policies that are none: %v", err)
	}
}
