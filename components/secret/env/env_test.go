package env_test

import (
	"errors"
	"os"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/secret"
	"github.com/outrigger-mesh/outrigger/components/secret/env"
	"github.com/outrigger-mesh/outrigger/components/secret/secrettest"
)

const prefix = "OUTRIGGER_TEST_SECRET_"

func TestConformance(t *testing.T) {
	secrettest.Run(t, func(t *testing.T) secrettest.Backend {
		return secrettest.Backend{Driver: open(t),
			Put:    func(key, value string) { t.Setenv(prefix+key, value) },
			Remove: func(key string) { os.Unsetenv(prefix + key) }}
	})
}

func open(t *testing.T) secret.Driver {
	t.Helper()
	d, err := env.Open(t.Context(), components.Env{}, env.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOnlyPrefixedVariablesAreVisible(t *testing.T) {
	t.Setenv("OUTRIGGER_TEST_OTHER", "sidecar's own")
	t.Setenv(prefix, "no key")
	d := open(t)
	for _, key := range []string{"", "OUTRIGGER_TEST_OTHER", "PATH", "../PATH", "=", "\x00"} {
		if _, err := d.Get(t.Context(), key); !errors.Is(err, components.ErrNotFound) {
			t.Errorf("get %q: %v, want ErrNotFound", key, err)
		}
	}
	if keys, err := d.List(t.Context(), "", "", 1000); err != nil || len(keys) != 0 {
		t.Errorf("list: %q, %v; want none", keys, err)
	}
}

func TestEmptyPrefixIsRefused(t *testing.T) {
	for _, bad := range []string{"", "A=", "A\x00"} {
		if err := (env.Options{Prefix: bad}).Validate(); err == nil {
			t.Errorf("prefix %q is accepted", bad)
		}
		if _, err := env.Open(t.Context(), components.Env{}, env.Options{Prefix: bad}); err == nil {
			t.Errorf("prefix %q is opened", bad)
		}
	}
}
