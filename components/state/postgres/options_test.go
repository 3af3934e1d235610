package postgres

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/state"
)

func TestOptionsThatCannotBe(t *testing.T) {
	d, _ := state.Drivers.Defaults("postgres")
	good := d.(Options)
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(o *Options){
		"idempotency: ": func(o *Options) { o.Idempotency = 0 },
		"barriers: ":    func(o *Options) { o.Barriers = state.MaxTTL + 1 },
		"fences: ":      func(o *Options) { o.Fences = -time.Second },
		"sweep: ":       func(o *Options) { o.Sweep = time.Millisecond },
		"schema: ":      func(o *Options) { o.Postgres.Schema = "" },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestAttributes(t *testing.T) {
	if b, err := attributesOf(state.Item{Value: []byte("v")}); b != nil || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	want := map[string]string{"nul": "a\x00b", "ünïcode": "☃", "<": ">&"}
	b, err := attributesOf(state.Item{ContentType: "a\x00", Metadata: want})
	if err != nil {
		t.Fatal(err)
	}
	got, err := (&row{attributes: b}).item()
	if err != nil || got.ContentType != "a\x00" || !maps.Equal(got.Metadata, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := (&row{attributes: []byte("{")}).item(); err == nil {
		t.Error("what is no JSON is read")
	}
}
