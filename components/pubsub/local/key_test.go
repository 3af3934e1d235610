package local

import (
	"fmt"
	"log/slog"
	"testing"
)

// TestKeysStayWithTheirStream: two streams share many keys, so that both have some, and each key is one stream's. Where that has no room
// the other helps out.
func TestKeysStayWithTheirStream(t *testing.T) {
	const keys, each = 41, 5 // an odd number: in turn they would change
	r := newRig(t, slog.DiscardHandler)
	one, _ := r.join("g")
	two, _ := r.join("g")
	whose := map[string]*member{}
	handle := func(m *member) (n int) {
		t.Helper()
		for _, d := range m.take() {
			n++
			key := d.Event.OrderingKey
			if whose[key] == nil {
				whose[key] = m
			}
			if whose[key] != m {
				t.Errorf("key %s went to another stream", key)
			}
			m.hear(up{Messages: 1, Settled: []settled{{Serial: d.Serial}}})
		}
		return n
	}
	publish := func(n int) {
		t.Helper()
		in := publications("t", "", n)
		for i := range in.Events {
			in.Events[i].Event.OrderingKey = fmt.Sprint(i % keys)
		}
		if _, err := r.publish(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	publish(keys * each)
	handled := 0
	r.until("all are handled", func() bool {
		handled += handle(one) + handle(two)
		return handled == keys*each
	})
	mine := map[*member]int{}
	for _, m := range whose {
		mine[m]++
	}
	if mine[one] == 0 || mine[two] == 0 {
		t.Errorf("the keys are shared %d to %d", mine[one], mine[two])
	}
	one.hear(up{Pause: true})
	publish(keys)
	if n := len(r.get(two, keys)); n != keys {
		t.Errorf("of %d events %d came to who has room", keys, n)
	}
}
