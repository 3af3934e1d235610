package grpcproxy

import (
	"context"
	"strings"
	"testing"
	"time"
)

func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"1S", "99999999H", "100m", "0n", "8M", "x", "-1S", "123456789u", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseTimeout(s)
		if d < 0 || d > maxTimeout || ok != (d > 0 || s == "") {
			t.Fatal(d, ok)
		}
		if d == 0 {
			return
		}
		back := formatTimeout(d) // may be rounded, up where it is short
		if len(back) > 9 {
			t.Fatal(back)
		}
		if again, ok := parseTimeout(back); !ok || again < d-time.Minute || d < 90*time.Second && again < d || again > d+time.Microsecond {
			t.Fatal(s, d, back, again)
		}
	})
}

// TestTimeoutThatCannotBeRead: the call is not passed on, neither to a server nor to a method of the relay's own, and others go on.
func TestTimeoutThatCannotBeRead(t *testing.T) {
	r := &Relay{}
	r.Unary("/raw/Call", Method{Handler: func(context.Context, []byte, []byte) ([]byte, *Status) {
		t.Error("the relay's own method was called")
		return nil, nil
	}})
	inBubble(t, r, func(x *between) {
		for i, limit := range []string{"10", "S", "-1S", "1 S", "123456789S", "1s", strings.Repeat("9", 100) + "S"} {
			id := uint32(2*i + 1)
			x.client.request(id, i%2 == 0, "grpc-timeout", limit)
			end := x.client.ending(id)
			if end["grpc-status"] != "13" || !strings.Contains(end["grpc-message"], "malformed grpc-timeout") || !strings.Contains(end["grpc-message"], limit[:min(len(limit), 32)]) {
				t.Errorf("%q: %v", limit, end)
			}
		}
		x.client.request(101, true, "grpc-timeout", "1S")
		x.take()
		x.ends(101, time.Second+lateGrace, "no answer")
	})
}
