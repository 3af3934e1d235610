package parts_test

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

type keeper struct{}

func (keeper) Stir()                      {}
func (keeper) Kept(context.Context) error { return nil }
func (keeper) Left(context.Context) error { return nil }

type reading struct{ paused bool }

func (r *reading) Stop()          {}
func (r *reading) Pause(now bool) { r.paused = now }

// A part that was paused because much is held is read on once that is not so any more, whatever has ended it.
func TestPausedPartsAreReadOn(t *testing.T) {
	for name, end := range map[string]func(g *parts.Group, large *parts.Part){
		"dropped": func(g *parts.Group, large *parts.Part) { g.Drop(large) },
		"void":    func(g *parts.Group, large *parts.Part) { g.Void(large) },
		"told":    func(g *parts.Group, _ *parts.Part) { g.Tell(parts.Settled{Member: "other", Part: 0, Offset: 1}) },
	} {
		g := parts.New(keeper{}, "me", 10<<10)
		progress := parts.Begin(1)
		progress.Known, progress.Open[1] = 2, parts.Try{Holder: "other"}
		large, small, r := g.Take(0, progress), g.Take(1, parts.Begin(1)), &reading{}
		large.Read(&reading{})
		small.Read(r)
		large.Arrive([]int64{1}, []pubsub.Event{{Data: make([]byte, 20<<10)}})
		small.Arrive([]int64{1}, []pubsub.Event{{}})
		if !r.paused {
			t.Fatal("it is not paused")
		}
		if end(g, large); r.paused {
			t.Errorf("%s: it stays paused", name)
		}
		g.Stop()
	}
}

func TestProgressOfTooManyIsRefused(t *testing.T) {
	var raw []byte
	for _, n := range []int64{1, 0, 1 << 60} { // count, moved, known
		raw = binary.AppendVarint(raw, n)
	}
	raw = binary.AppendUvarint(raw, 0)
	raw = binary.AppendVarint(raw, 0)
	for _, n := range []uint64{1 << 59, 0, 0} { // events, attempts, holder
		raw = binary.AppendUvarint(raw, n)
	}
	raw = binary.AppendVarint(raw, 0)
	if _, err := parts.Decode(1, raw, false); err == nil {
		t.Error("it is read")
	}
}
