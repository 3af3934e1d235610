package components_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

type options struct {
	Size int
	Bad  bool
}

var errBad = errors.New("bad must not be set")

func (o options) Validate() error {
	if o.Bad {
		return errBad
	}
	return nil
}

// newRegistry has one driver, which says what it was opened with.
func newRegistry() *components.Registry[string] {
	r := components.NewPrivateRegistry[string]("cache")
	components.Register(r, "zeta", options{Size: 7}, func(_ context.Context, env components.Env, o options) (string, error) {
		return fmt.Sprintf("%s size %d", env.ID.Name, o.Size), nil
	})
	components.Register(r, "alpha", struct{}{}, func(context.Context, components.Env, struct{}) (string, error) {
		return "", components.ErrUnavailable
	})
	return r
}

func TestRegistryOpensWithDecodedOptions(t *testing.T) {
	r := newRegistry()
	if r.Capability() != "cache" || !slices.Equal(r.Drivers(), []string{"alpha", "zeta"}) {
		t.Errorf("%s has %v", r.Capability(), r.Drivers())
	}
	env := components.Env{ID: components.ID{Name: "sessions"}}
	for size, want := range map[int]string{0: "sessions size 7", 9: "sessions size 9"} {
		decoded, err := r.Decode("zeta", func(o any) error {
			if size > 0 {
				o.(*options).Size = size
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Open(t.Context(), "zeta", env, decoded); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if o, ok := r.Defaults("zeta"); !ok || o.(options).Size != 7 {
		t.Errorf("defaults became %+v", o)
	}
	if _, err := r.Open(t.Context(), "alpha", env, struct{}{}); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("an opener's error: %v", err)
	}
}

func TestRegistryRefuses(t *testing.T) {
	r := newRegistry()
	if _, err := r.Decode("zeta", func(o any) error { o.(*options).Bad = true; return nil }); !errors.Is(err, errBad) {
		t.Errorf("options that are not valid: %v", err)
	}
	broken := errors.New("line 3")
	if _, err := r.Decode("zeta", func(any) error { return broken }); err != broken {
		t.Errorf("what load answers: %v, want it as it is", err)
	}
	if _, err := r.Decode("none", func(any) error { return nil }); err == nil || err.Error() != `unknown driver "none"` {
		t.Errorf("decode of an unknown driver: %v", err)
	}
	if _, err := r.Open(t.Context(), "none", components.Env{}, nil); err == nil || err.Error() != `unknown cache driver "none"` {
		t.Errorf("open of an unknown driver: %v", err)
	}
	if o, ok := r.Defaults("none"); ok || o != nil {
		t.Errorf("defaults of an unknown driver: %v, %v", o, ok)
	}
}

func TestNameThatIsTaken(t *testing.T) {
	panics := func(do func()) (said any) {
		defer func() { said = recover() }()
		do()
		return nil
	}
	r := newRegistry()
	if said := panics(func() {
		components.Register(r, "alpha", struct{}{}, func(context.Context, components.Env, struct{}) (string, error) { return "", nil })
	}); said != "components: cache driver alpha is registered twice" {
		t.Errorf("a driver: %v", said)
	}
	capability := fmt.Sprint("only-in-this-test-", time.Now().UnixNano()) // another one each time it runs
	components.NewRegistry[string](capability)
	if said := panics(func() { components.NewRegistry[int](capability) }); said != "components: capability "+capability+" is declared twice" {
		t.Errorf("a capability: %v", said)
	}
	listed := slices.ContainsFunc(components.Catalogs(), func(c components.Catalog) bool { return c.Capability() == capability })
	private := slices.ContainsFunc(components.Catalogs(), func(c components.Catalog) bool { return c.Capability() == "cache" })
	if !listed || private {
		t.Errorf("catalogs list the declared one: %v, the private one: %v", listed, private)
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	const hidden = "hunter2"
	o := struct {
		Password components.Secret
		Nested   struct{ Token components.Secret }
		Many     map[string]components.Secret
	}{hidden, struct{ Token components.Secret }{hidden}, map[string]components.Secret{"k": hidden}}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("open", "options", o, "password", o.Password)
	slog.New(slog.NewTextHandler(&log, nil)).Info("open", "options", o, "password", o.Password)
	encoded, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{log.String(), string(encoded), fmt.Sprint(o.Password), fmt.Errorf("bad %w", fmt.Errorf("%v", o.Password)).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, o), fmt.Sprintf(verb, o.Password), fmt.Sprintf(verb, &o.Password), fmt.Sprintf(verb, []components.Secret{hidden}))
	}
	for _, text := range shown {
		if strings.Contains(text, hidden) || strings.Contains(text, fmt.Sprintf("%x", hidden)) || strings.Contains(text, fmt.Sprintf("%X", hidden)) {
			t.Errorf("shown: %s", text)
		}
	}
	if o.Password.Reveal() != hidden {
		t.Error("Reveal does not tell it")
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]components.Size{
		"0": 0, "0B": 0, "1B": 1, "512B": 512, "64KiB": 64 << 10, "64 KiB": 64 << 10, "10MiB": 10 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40,
		"1kB": 1000, "1MB": 1e6, "1GB": 1e9, "1TB": 1e12, "9223372036854775807B": math.MaxInt64,
	} {
		if got, err := components.ParseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": `"" is not a size`, "x": "is not a size", "1.5MiB": "is not a size", "MiB": "is not a size", "1mib": "is not a size", "1 MiB x": "is not a size",
		"-1B": "is negative", "10": `has no unit (write 10B, 10KiB, 10MiB)`, "9223372036854775807KiB": "is too large", "9999999999TiB": "is too large",
		"9223372036854775808B": "is not a size",
	} {
		if got, err := components.ParseSize(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %d, %v; want an error with %s", text, got, err, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{"0", "64MiB", "1kB", "-3B", "99999999999999999999TiB", "1 GiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := components.ParseSize(text)
		if err != nil {
			return
		}
		if size < 0 {
			t.Fatalf("%q is %d", text, size)
		}
		var again components.Size
		written, _ := size.MarshalText()
		if err := again.UnmarshalText(written); err != nil || again != size {
			t.Fatalf("%q is %d, written %s, read as %d, %v", text, size, written, again, err)
		}
	})
}
