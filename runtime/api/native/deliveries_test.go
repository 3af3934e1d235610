package native

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// handOut delivers once, and keeps in mind what comes back.
type handOut struct {
	some     []string
	returned []string
}

func (h *handOut) Next() ([]string, error)          { return h.some, nil }
func (h *handOut) Grant(int64, int64) error         { return nil }
func (h *handOut) Ack(...string) error              { return nil }
func (h *handOut) Nack(string, time.Duration) error { return nil }
func (h *handOut) Reject(string, string) error      { return nil }
func (h *handOut) Extend(string) error              { return nil }
func (h *handOut) Drain()                           {}
func (h *handOut) Close()                           {}

func (h *handOut) Return(ids ...string) error {
	h.returned = append(h.returned, ids...)
	return nil
}

var errBroken = errors.New("broken")

// breaks sends so many and no more.
type breaks struct{ left int }

func (b *breaks) Send(*string) error {
	if b.left--; b.left < 0 {
		return errBroken
	}
	return nil
}

// TestWhatIsNotSentGoesBack: a stream breaks in the middle of what was fetched for it.
func TestWhatIsNotSentGoesBack(t *testing.T) {
	h := &handOut{some: []string{"a", "b", "c", "d"}}
	same := func(s *string) *string { return s }
	d := &deliveries[string, string]{share: h, delivery: same, id: func(s *string) string { return "id " + *s }}
	if err := d.tell(&breaks{left: 2}); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	if want := []string{"id c", "id d"}; !slices.Equal(h.returned, want) {
		t.Errorf("%q went back, want %q", h.returned, want)
	}
}
