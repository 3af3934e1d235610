package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// request has fields of these names and values.
func request(pairs ...string) *grpcproxy.Headers {
	h := &grpcproxy.Headers{}
	for i := 0; i < len(pairs); i += 2 {
		h.Fields = append(h.Fields, grpcproxy.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return h
}

func TestHopsAreTheLargerOfHeaderAndTracestate(t *testing.T) {
	for _, c := range []struct {
		want int
		h    *grpcproxy.Headers
	}{
		{0, request()},
		{3, request("outrigger-hops", "3")},
		{1 << 20, request("outrigger-hops", "-1")},
		{1 << 20, request("outrigger-hops", "x")},
		{5, request("outrigger-hops", "3", "traceparent", parent, "tracestate", "outrigger=h:5")},
		{7, request("outrigger-hops", "7", "traceparent", parent, "tracestate", "a=1, outrigger=h:5\t,b=2")},
		{5, request("traceparent", parent, "tracestate", "a=1", "tracestate", "outrigger=h:5")},
		{5, request("traceparent", parent, "tracestate", "outrigger=h:2,outrigger=h:5")},
		{0, request("traceparent", parent, "tracestate", "outrigger=h:-5")},
		{0, request("traceparent", parent, "tracestate", "outrigger=h:99999999999")},
		{0, request("traceparent", parent, "tracestate", "outrigger=h:,my-outrigger=h:5,outrigger=5")},
		{0, request("tracestate", "outrigger=h:5")}, // without a parent a state means nothing
		{0, request("traceparent", "00-00-00-00", "tracestate", "outrigger=h:5")},
	} {
		if got := hopsOf(c.h); got != c.want {
			t.Errorf("%v: %d hops, want %d", c.h.Fields, got, c.want)
		}
	}
}

// members are n of a tracestate.
func members(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("k%d=v", i)
	}
	return strings.Join(all, ",")
}

func TestTracestateCarriesHops(t *testing.T) {
	long := "a=" + strings.Repeat("x", 250) + ",b=" + strings.Repeat("y", 250)
	for came, want := range map[string]string{
		"":                             "outrigger=h:4",
		"a=1":                          "outrigger=h:4,a=1",
		"b=2,a=1,t0@c/*_-=! ~":         "outrigger=h:4,b=2,a=1,t0@c/*_-=! ~", // the others as they are, in order
		"a=1, outrigger=h:3 ,b=2":      "outrigger=h:4,a=1,b=2",              // ours comes to the front
		"outrigger=h:3,outrigger=h:":   "outrigger=h:4",
		"a=1,,\t,b=2":                  "outrigger=h:4,a=1,b=2",
		members(31):                    "outrigger=h:4," + members(31),
		members(32):                    members(32), // full
		members(31) + ",outrigger=h:1": "outrigger=h:4," + members(31),
		long:                           long,
		"a":                            "a", // broken
		"a=1,B=2":                      "a=1,B=2",
		"a=":                           "a=",
		"a=1=2":                        "a=1=2",
		"a=\x7f":                       "a=\x7f",
		"a=é":                          "a=é",
		"=1":                           "=1",
	} {
		h := request("traceparent", parent, "tracestate", came, "x-own", "kept")
		setStateHops(h, parent, 4)
		if got := h.Get("tracestate"); got != want || h.Get("x-own") != "kept" || h.Get("traceparent") != parent {
			t.Errorf("%q became %q, want %q; %v", came, got, want, h.Fields)
		}
	}
	several := request("traceparent", parent, "tracestate", "b=2", "tracestate", "", "tracestate", "a=1")
	setStateHops(several, parent, 4)
	if got := stateOf(several); got != "outrigger=h:4,b=2,a=1" || len(several.Fields) != 2 {
		t.Errorf("fields of one name became %v", several.Fields)
	}
	for _, parent := range []string{"", "mine", "00-00000000000000000000000000000000-b7ad6b7169203331-01"} {
		h := request("tracestate", "a=1")
		if setStateHops(h, parent, 4); h.Get("tracestate") != "a=1" {
			t.Errorf("without a trace (%q): %v", parent, h.Fields)
		}
	}
}

func FuzzTracestate(f *testing.F) {
	for _, s := range []string{"", "a=1", "a=1, outrigger=h:3 ,b=2", "a=1,,b=2", "a", members(32)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, state string) {
		made, ok := withHops(state, 9)
		if !ok {
			return
		}
		if got := stateHops(made); got != 9 {
			t.Fatalf("%q became %q, which reads as %d", state, made, got)
		}
		if again, ok := withHops(made, 9); !ok || again != made {
			t.Fatalf("%q became %q, and that %q", state, made, again)
		}
	})
}

func TestHopsOfAnUntracedCallCostNothing(t *testing.T) {
	h := request("outrigger-hops", "3", "x-own", "kept")
	if n := testing.AllocsPerRun(1000, func() {
		hopsOf(h)
		setStateHops(h, "", 4)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
