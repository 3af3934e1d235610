package nats

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// nowhere reads nothing.
type nowhere struct{}

func (nowhere) Stop() {}

func (nowhere) Pause(bool) {}

// alone is a group of which nobody else is there, with one part, of which a session has the event at offset 1.
func alone(t *testing.T) (g *group, s *parts.Session, m pubsub.Message) {
	t.Helper()
	d := &driver{opts: Options{Heartbeat: time.Second, SessionTimeout: 10 * time.Second, Ahead: 32 << 20}, log: slog.New(slog.DiscardHandler)}
	g = d.newGroup(&topic{parts: 1}, "base", pubsub.Subscription{})
	t.Cleanup(g.Stop)
	s = g.Enter()
	g.Lease(time.Now().Add(time.Hour))
	p := g.Take(0, parts.Begin(1))
	p.Read(nowhere{})
	p.Arrive([]int64{1}, []pubsub.Event{{ID: "x"}})
	all, err := s.Fetch(t.Context(), pubsub.Room{Messages: 1, Bytes: 1 << 20})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	return g, s, all[0]
}

func untold(g *group) int { all, _ := g.Untold(); return len(all) }

// How a delivery ended of a part that was let go is told until what the next owner has written says that it knows. What was written before the
// part was let go may not even have known of the delivery.
func TestWhatIsOldConfirmsNothing(t *testing.T) {
	g, s, m := alone(t)
	p := g.Part(0)
	p.Offer()
	last := p.Change().State
	if last.Open[1].Holder != g.Member() {
		t.Fatalf("what is let go does not say who has the event: %+v", last.Open)
	}
	g.released[0] = 7
	g.Drop(p)
	if err := s.Settle(t.Context(), []pubsub.Settlement{{Position: m.Position}}); err != nil {
		t.Fatal(err)
	}
	if untold(g) != 1 {
		t.Fatalf("%d are to be told", untold(g))
	}
	members := map[string]presence{g.Member(): {}}
	old, known := parts.Begin(1), parts.Begin(2)
	for _, c := range []struct {
		name     string
		sequence uint64
		progress *parts.Progress
		want     int
	}{{"before it was let go", 6, old, 1}, {"when it was let go", 7, last, 1}, {"by the next owner, who has not heard", 8, last, 1}, {"by one who has", 9, known, 0}} {
		g.hear(map[string]record{partName(0): {sequence: c.sequence, value: &holding{progress: c.progress}}}, members)
		if got := untold(g); got != c.want {
			t.Errorf("after what was written %s %d are to be told, want %d", c.name, got, c.want)
		}
	}
}

// A sidecar takes others for gone only where it would have heard of them: as long as it hears itself.
func TestWhoIsGone(t *testing.T) {
	g, _, _ := alone(t)
	begin := time.Now()
	at := func(d time.Duration) time.Time { return begin.Add(d) }
	sequence := uint64(10)
	look := func(own, other time.Duration) bool {
		sequence++
		members := g.living(map[string]record{memberName(g.Member()): {sequence: sequence, at: at(own), value: presence{}},
			memberName("other"): {sequence: 1, at: at(other), value: presence{1}}})
		_, there := members["other"]
		return there
	}
	var said []string
	for _, c := range []struct{ own, other time.Duration }{
		{0, 0}, {4 * time.Second, 0}, {8 * time.Second, 0}, // silent, and not for long
		{30 * time.Second, 0}, {34 * time.Second, 0}, // nothing was heard of anybody meanwhile
		{38 * time.Second, 0}, {42 * time.Second, 0}, // silent for 12 s, of which it is known
		{42 * time.Second, 41 * time.Second},
	} {
		word := "there"
		if !look(c.own, c.other) {
			word = "gone"
		}
		said = append(said, word)
	}
	if got := strings.Join(said, " "); got != "there there there there there there gone there" {
		t.Errorf("it is %s", got)
	}
}
