package nats

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// balance takes the parts that it is to have, and lets those go that it is not to have. Complete: it has what it is to have.
func (g *group) balance(ctx context.Context, all map[string]record, o origin, members map[string]presence) (complete bool, err error) {
	wishes := map[string]parts.Wish{}
	for name, p := range members {
		wishes[name] = parts.Wish{Weight: p.Weight}
	}
	owners := map[int32]string{}
	for id := range g.topic.parts {
		owner := g.Member()
		if g.held[id] == nil {
			owner = ""
			if h, ok := all[partName(id)].value.(*holding); ok && h.Owner != g.Member() {
				owner = h.Owner
			}
		}
		if w, there := wishes[owner]; there {
			owners[id] = owner
			w.Owned = append(w.Owned, id)
			wishes[owner] = w
		}
	}
	plan := parts.Share(g.topic.parts, wishes)[g.Member()]
	for id, h := range g.held {
		switch {
		case !slices.Contains(plan, id):
			err = g.letGo(ctx, h)
		case h.part.Offered(): // it is not known whether it was let go
			if err = g.write(ctx, h, h.part.Change(), g.Member()); err == nil {
				h.part.Keep()
			}
		}
		if err != nil && !errors.Is(err, errConflict) {
			return false, err
		}
	}
	complete = true
	for _, id := range plan {
		if g.held[id] != nil {
			continue
		}
		complete = false
		if owners[id] == "" {
			if err := g.acquire(ctx, id, all[partName(id)], o); err != nil && !errors.Is(err, errConflict) {
				return false, err
			}
		}
	}
	return complete, nil
}

// acquire takes a part over, from where the one before has left it.
func (g *group) acquire(ctx context.Context, id int32, r record, o origin) error {
	progress := parts.Begin(o.Low)
	progress.Moved = o.Moved
	if before, ok := r.value.(*holding); ok {
		switch moved := before.progress.Moved; {
		case moved > o.Moved: // there is something that was not seen yet
			return nil
		case moved == o.Moved:
			var err error
			if progress, err = parts.Decode(before.Offset, before.State, before.Deflated); err != nil {
				return err
			}
		}
	}
	h := &hold{id: id, sequence: r.sequence, serial: uint64(time.Now().UnixNano())}
	if err := g.write(ctx, h, parts.Change{State: progress}, g.Member()); err != nil {
		return err
	}
	h.part = g.Take(id, progress)
	g.held[id] = h
	g.read(h.part)
	g.Stir() // what others have told of it
	return nil
}

// letGo has another one take a part, and what is under way stay here. What was told of the part before must be gone by then: it would mean
// something else.
func (g *group) letGo(ctx context.Context, h *hold) error {
	if err := g.tellOf(ctx, h.id, nil); err != nil {
		return err
	}
	h.part.Offer()
	if err := g.write(ctx, h, h.part.Change(), ""); err != nil {
		return err
	}
	g.released[h.id] = h.sequence
	delete(g.held, h.id)
	g.Drop(h.part)
	return nil
}

// answer answers those who wait. Left: the last session has ended, and all is kept.
func (g *group) answer(ctx context.Context, r record, o origin, complete bool) (left bool, err error) {
	untold, _ := g.Untold()
	var still []*ask
	for _, a := range g.waiting {
		done := false
		switch {
		case a.ctx.Err() != nil:
			continue
		case a.join:
			done, err = g.joined(ctx, a, r, o, complete)
		case len(untold) > 0:
		case a.leave:
			if err = g.leave(ctx); err == nil {
				left, done = true, true
			}
		default:
			done = true
		}
		if done {
			a.done <- nil
		} else {
			still = append(still, a)
		}
	}
	g.waiting = still
	return left, err
}

// joined tells whether the group is as somebody who joins must find it: its place is kept, it has been moved, if that was asked for, and shares are
// what they will be.
func (g *group) joined(ctx context.Context, a *ask, r record, o origin, complete bool) (bool, error) {
	if !a.to.IsZero() && a.moved == 0 {
		low, err := g.first(ctx, a.to)
		if err != nil {
			return false, err
		}
		_, err = g.put(ctx, "g", pack(origin{Low: low, Moved: o.Moved + 1, Born: o.Born}), r.sequence)
		switch {
		case errors.Is(err, errConflict):
			return false, nil
		case err == nil:
			a.moved = o.Moved + 1
		}
		return false, err
	}
	return o.Moved >= a.moved && (complete && g.heardOf > 0 || time.Since(a.since) > settleDown), nil
}

// leave lets all parts go, and says that it is not there any more.
func (g *group) leave(ctx context.Context) error {
	for _, h := range g.held {
		if err := g.letGo(ctx, h); err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
	for id := range g.told {
		if err := g.tellOf(ctx, id, nil); err != nil {
			return err
		}
	}
	_, err := g.put(ctx, memberName(g.Member()), nil, anything)
	return err
}
