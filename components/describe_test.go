package components_test

import (
	"slices"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

func TestOptionsAreDescribed(t *testing.T) {
	type connection struct {
		Addr     string            `yaml:"addr" doc:"where"`
		Password components.Secret `yaml:"password"`
	}
	got := components.Options(struct {
		Redis   connection      `yaml:"redis" doc:"not told: its fields are"`
		Timeout time.Duration   `yaml:"timeout,omitempty" doc:"per command"`
		Max     components.Size `yaml:"max"`
		Names   []string        `yaml:"names"`
		Hidden  int             `yaml:"-"`
		Plain   int
	}{Redis: connection{Addr: "localhost:6379", Password: "hunter2"}, Timeout: 3 * time.Second, Max: 64 << 20})
	want := []components.Option{
		{"redis.addr", "string", "localhost:6379", "where"},
		{"redis.password", "secret", "***", ""},
		{"timeout", "duration", "3s", "per command"},
		{"max", "size", "64MiB", ""},
		{"names", "[]string", "[]", ""},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if none := components.Options(struct{}{}); none == nil || len(none) > 0 {
		t.Errorf("no options: %#v", none)
	}
}
