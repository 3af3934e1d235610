package grpcproxy

import (
	"testing"
	"time"
)

func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"1S", "99999999H", "100m", "0n", "8M", "x", "-1S", "123456789u"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := parseTimeout(s)
		if d < 0 || d > maxTimeout {
			t.Fatal(d)
		}
		if d == 0 {
			return
		}
		back := formatTimeout(d) // may be rounded, up where it is short
		if len(back) > 9 {
			t.Fatal(back)
		}
		if again := parseTimeout(back); again == 0 || again < d-time.Minute || d < 90*time.Second && again < d || again > d+time.Microsecond {
			t.Fatal(s, d, back, again)
		}
	})
}
