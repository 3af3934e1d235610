package telemetry

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

func TestLogNamesTheApplication(t *testing.T) {
	var out buffer
	tel := open(t, config.Telemetry{Log: config.Log{Format: "json"}}, Info{App: "orders", Namespace: "shop", Output: &out})
	tel.Logger.Info("ready", "port", 7070)
	var line map[string]any
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil {
		t.Fatal(err)
	}
	if line["app"] != "orders" || line["namespace"] != "shop" || line["msg"] != "ready" || line["port"] != 7070.0 {
		t.Errorf("got %v", line)
	}
}

func TestLevelChangesForDerivedLoggers(t *testing.T) {
	var out buffer
	tel := open(t, config.Telemetry{Log: config.Log{Level: "warn"}}, Info{Output: &out})
	derived := tel.Logger.With("component", "sessions")
	derived.Info("one")
	if err := tel.SetLevel("debug"); err != nil {
		t.Fatal(err)
	}
	derived.Debug("two")
	if got := out.String(); strings.Contains(got, "msg=one") || !strings.Contains(got, "msg=two") {
		t.Errorf("logged %q, expected the second record only", got)
	}
	if tel.Level() != "debug" {
		t.Errorf("level is %q", tel.Level())
	}
	if err := tel.SetLevel("loud"); !errors.Is(err, components.ErrInvalid) || tel.Level() != "debug" {
		t.Errorf("an unknown level gives %v and leaves %q", err, tel.Level())
	}
}

func TestNewRefuses(t *testing.T) {
	for name, conf := range map[string]config.Telemetry{
		"unknown level":                {Log: config.Log{Level: "loud"}},
		"access log in no folder":      {AccessLog: t.TempDir() + "/none/access.log"},
		"access log that is no a file": {AccessLog: t.TempDir()},
	} {
		if _, err := New(t.Context(), conf, Info{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
