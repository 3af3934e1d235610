package secret_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/secret"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var app = components.Caller{Namespace: "shop", App: "orders"}

const hush = "correct-horse"

// fake answers a value for each key but "none" and "denied".
type fake struct {
	calls, busy, most atomic.Int64
}

func (d *fake) Get(ctx context.Context, key string) (secret.Value, error) {
	d.calls.Add(1)
	if n := d.busy.Add(1); n > d.most.Load() {
		d.most.Store(n)
	}
	defer d.busy.Add(-1)
	time.Sleep(time.Millisecond)
	switch key {
	case "none":
		return secret.Value{}, components.ErrNotFound
	case "denied":
		return secret.Value{}, components.ErrDenied
	}
	return secret.Value{Data: secret.Data(hush + key), Version: "1"}, ctx.Err()
}

func (d *fake) List(_ context.Context, prefix, after string, limit int) (keys []string, err error) {
	d.calls.Add(1)
	for i := range 25 {
		if key := fmt.Sprintf("k%02d", i); strings.HasPrefix(key, prefix) && key > after && len(keys) < limit {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func front(t *testing.T) (*secret.Secret, *fake) {
	t.Helper()
	d := &fake{}
	c := components.NewComponent[secret.Driver](components.ID{Capability: "secret", Name: "vault", Driver: "fake"}, components.Limits{}, nil)
	c.Set(d)
	return secret.New(c), d
}

func TestGet(t *testing.T) {
	s, _ := front(t)
	if got, err := s.Get(t.Context(), app, "a"); err != nil || string(got.Data) != hush+"a" || got.Version != "1" {
		t.Errorf("%q, version %q, %v", []byte(got.Data), got.Version, err)
	}
	if got, err := s.Reveal(t.Context(), "a"); err != nil || got != hush+"a" {
		t.Errorf("reveal: %q, %v", got, err)
	}
	_, get := s.Get(t.Context(), app, "none")
	_, reveal := s.Reveal(t.Context(), "none")
	for _, err := range []error{get, reveal} {
		if !errors.Is(err, components.ErrNotFound) || !strings.Contains(err.Error(), `secret "vault"`) {
			t.Errorf("%v, want ErrNotFound that names the component", err)
		}
	}
}

func TestWhatDoesNotReachTheDriver(t *testing.T) {
	s, d := front(t)
	for _, key := range []string{"", strings.Repeat("k", 1<<20), "\xff", "a\x00"} {
		_, err := s.Get(t.Context(), app, key)
		_, reveal := s.Reveal(t.Context(), key)
		if !errors.Is(err, components.ErrInvalid) || !errors.Is(reveal, components.ErrInvalid) {
			t.Errorf("key of %d bytes: %v, %v; want ErrInvalid", len(key), err, reveal)
		}
	}
	_, _, prefix := s.List(t.Context(), app, "\xff", 0, "")
	_, _, size := s.List(t.Context(), app, "", -1, "")
	_, _, token := s.List(t.Context(), app, "", 0, "%")
	_, many := s.GetMany(t.Context(), app, make([]string, 1001))
	for name, err := range map[string]error{"prefix": prefix, "page size": size, "page token": token, "many": many} {
		if !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, get := s.Get(past, app, "a")
	_, gets := s.GetMany(past, app, []string{"a"})
	for _, err := range []error{get, gets} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want DeadlineExceeded", err)
		}
	}
	if n := d.calls.Load(); n != 0 {
		t.Errorf("the driver was called %d times", n)
	}
}

func TestGetMany(t *testing.T) {
	s, d := front(t)
	keys := []string{"a", "none", "", "denied", "b", "a"}
	for len(keys) < secret.MaxMany {
		keys = append(keys, fmt.Sprint("k", len(keys)))
	}
	results, err := s.GetMany(t.Context(), app, keys)
	if err != nil || len(results) != len(keys) {
		t.Fatalf("%d results, %v", len(results), err)
	}
	want := map[string]error{"none": components.ErrNotFound, "": components.ErrInvalid, "denied": components.ErrDenied}
	for i, r := range results {
		if r.Key != keys[i] || !errors.Is(r.Err, want[keys[i]]) || r.Err == nil && string(r.Value.Data) != hush+keys[i] {
			t.Errorf("result %d of %q is for %q, %v", i, keys[i], r.Key, r.Err)
		}
	}
	if n := d.most.Load(); n > 16 {
		t.Errorf("%d calls at once", n)
	}
}

func TestGetManyEndsWithItsContext(t *testing.T) {
	s, d := front(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := s.GetMany(ctx, app, slices.Repeat([]string{"k"}, 1000)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
	if n := d.calls.Load(); n == 1000 {
		t.Error("the driver was asked for all keys after the deadline")
	}
}

func TestPages(t *testing.T) {
	s, _ := front(t)
	for size, want := range map[int]int{1: 25, 10: 3, 24: 2, 25: 1, 0: 1} {
		var keys []string
		pages := 0
		for token := ""; pages < 100; {
			page, next, err := s.List(t.Context(), app, "k", size, token)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, page...)
			pages++
			if token = next; token == "" {
				break
			}
		}
		if pages != want || len(keys) != 25 || !slices.IsSorted(keys) {
			t.Errorf("page size %d: %d pages of %q; want %d", size, pages, keys, want)
		}
	}
}

func TestValuesAreNotShown(t *testing.T) {
	r := secret.Result{Key: "k", Value: secret.Value{Data: secret.Data(hush), Version: "1"}}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "% x", "%100v"} {
		for _, what := range []any{r, r.Value, r.Value.Data, &r, &r.Value, []secret.Value{r.Value}, map[string]secret.Data{"k": r.Value.Data}} {
			shown = append(shown, fmt.Sprintf(verb, what))
		}
	}
	marshalled, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "a", r, "b", r.Value, "c", r.Value.Data)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "a", r, "b", r.Value, "c", r.Value.Data)
	shown = append(shown, string(marshalled), log.String(), fmt.Sprint(r), fmt.Errorf("%v: %w", r.Value, components.ErrDenied).Error())
	bare := []string{hush, fmt.Sprintf("%x", hush), fmt.Sprintf("%X", hush), fmt.Sprintf("% x", hush), fmt.Sprintf("%d", []byte(hush)), fmt.Sprintf("%o", []byte(hush)),
		"Y29ycmVjdC1ob3JzZQ"}
	for _, text := range shown {
		for _, secret := range bare {
			if strings.Contains(text, secret) {
				t.Errorf("the value shows in %s", text)
			}
		}
	}
}
