package telemetry

import (
	"strings"
	"testing"
)

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unwanted  = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	zeroTrace = "00-00000000000000000000000000000000-b7ad6b7169203331-01"
	zeroSpan  = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"
)

func TestParseTraceparent(t *testing.T) {
	for s, want := range map[string]struct {
		ok, sampled bool
	}{
		sampled:                                 {true, true},
		unwanted:                                {true, false},
		sampled[:53] + "ff":                     {true, true},
		"cc" + sampled[2:]:                      {true, true},
		"cc" + sampled[2:] + "-more":            {true, true},
		"cc" + sampled[2:] + ".more":            {},
		"ff" + sampled[2:]:                      {},
		sampled + "-more":                       {},
		sampled[:54]:                            {},
		strings.ToUpper(sampled):                {},
		zeroTrace:                               {},
		zeroSpan:                                {},
		"":                                      {},
		strings.Repeat("-", 55):                 {},
		" " + sampled[:54]:                      {},
		strings.Replace(sampled, "b7", "g7", 1): {},
	} {
		p, ok := ParseTraceparent(s)
		if ok != want.ok || p.Flags.IsSampled() && ok != want.sampled {
			t.Errorf("%q: ok %v, sampled %v", s, ok, p.Flags.IsSampled())
		}
	}
	p, _ := ParseTraceparent(sampled)
	if p.TraceID.String() != sampled[3:35] || p.SpanID.String() != sampled[36:52] || p.String() != sampled {
		t.Errorf("got %+v, %s", p, p)
	}
}

func FuzzParseTraceparent(f *testing.F) {
	for _, s := range []string{sampled, unwanted, zeroTrace, zeroSpan, "cc" + sampled[2:] + "-more", "", "00-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := ParseTraceparent(s)
		if !ok {
			return
		}
		if !p.TraceID.IsValid() || !p.SpanID.IsValid() {
			t.Fatalf("%q was taken with an id of zeros", s)
		}
		if again, ok := ParseTraceparent(p.String()); !ok || again != p {
			t.Fatalf("%q is written as %q, which reads as %+v", s, p, again)
		}
		if strings.HasPrefix(s, "00") && p.String() != s {
			t.Fatalf("%q is written as %q", s, p)
		}
	})
}

func TestParseTraceparentDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() { ParseTraceparent(sampled) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseTraceparent(b *testing.B) {
	for b.Loop() {
		ParseTraceparent(sampled)
	}
}
