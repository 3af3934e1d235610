package runtime

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/host"
)

// What the application cannot do without makes it unready to call; the rest is told.
func TestUsable(t *testing.T) {
	state := func(name, state string, required bool) host.State {
		return host.State{Capability: "state", Name: name, State: state, Required: required, Error: "at 10.1.2.3"}
	}
	for want, states := range map[string][]host.State{
		"": {state("a", "ready", true), state("b", "ready", false)},
		`state "b" is failing; state "c" is starting`:                                         {state("a", "ready", true), state("b", "failing", false), state("c", "starting", false)},
		`required state "a" is failing; state "b" is failing; required state "c" is starting`: {state("a", "failing", true), state("b", "failing", false), state("c", "starting", true)},
	} {
		ok, why := usable(states)
		if unready := len(want) > 0 && want[0] == 'r'; ok == unready || why != want {
			t.Errorf("%v, %q; want %q", ok, why, want)
		}
	}
}
