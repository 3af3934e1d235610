package postgresconn_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
)

func TestOptionsThatCannotBe(t *testing.T) {
	good := postgresconn.Defaults()
	good.Addresses, good.User = []string{"db:5432", "[::1]:5433"}, "app"
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(o *postgresconn.Options){
		"addresses: ":       func(o *postgresconn.Options) { o.Addresses = nil },
		`addresses: "db:x"`: func(o *postgresconn.Options) { o.Addresses = []string{"db:x"} },
		"user":              func(o *postgresconn.Options) { o.User = "" },
		"schema: ":          func(o *postgresconn.Options) { o.Schema = "a; drop" },
		"schema: \"pg_x\"":  func(o *postgresconn.Options) { o.Schema = "pg_x" },
		"connections: ":     func(o *postgresconn.Options) { o.Connections = 0 },
		"timeout: ":         func(o *postgresconn.Options) { o.Timeout = 0 },
		"tls: ":             func(o *postgresconn.Options) { o.TLS.CA = "x" },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestAfter(t *testing.T) {
	for _, prefix := range []string{"a", "a/", "a\uffff", "a\ud7ff", "é", "a\U0010ffff", "a\x7f"} {
		after := postgresconn.After(prefix)
		within := []string{prefix, prefix + "\x01", prefix + "\U0010ffff\U0010ffff", prefix + "a"}
		if i := slices.IndexFunc(within, func(s string) bool { return s >= after }); i >= 0 {
			t.Errorf("%q: %q comes after %q", prefix, within[i], after)
		}
		if strings.HasPrefix(after, prefix) {
			t.Errorf("%q begins with %q", after, prefix)
		}
	}
	if got := postgresconn.After("\U0010ffff"); got != "" {
		t.Errorf("%q", got)
	}
}
