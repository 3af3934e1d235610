package parts

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// Session is one stream. The group's lock guards it.
type Session struct {
	g      *Group
	room   pubsub.Room
	waits  bool      // in Fetch
	full   time.Time // when it last had room
	serial uint64
	flying map[uint64]*item
	out    []pubsub.Message // given, and not fetched
	news   chan struct{}
}

// give delivers an item. The caller holds the lock.
func (s *Session) give(it *item) {
	s.serial++
	it.attempts++
	it.session = s
	s.flying[s.serial] = it
	s.room.Messages--
	s.room.Bytes -= it.size
	s.full = time.Now()
	s.out = append(s.out, pubsub.Message{Position: strconv.FormatUint(s.serial, 36), Attempt: it.attempts, Event: it.event})
	poke(s.news)
}

// Fetch implements pubsub.Session.
func (s *Session) Fetch(ctx context.Context, room pubsub.Room) ([]pubsub.Message, error) {
	g := s.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.room.Messages > 0 || room.Messages > 0 {
		s.full = time.Now()
	}
	s.room, s.waits = room, true
	g.dispatch()
	for len(s.out) == 0 && g.ended == nil && ctx.Err() == nil {
		g.mu.Unlock()
		select {
		case <-s.news:
		case <-ctx.Done():
		}
		g.mu.Lock()
	}
	s.waits = false
	out := s.out
	s.out = nil
	switch {
	case len(out) > 0:
		return out, nil
	case g.ended != nil:
		return nil, g.ended
	}
	return nil, ctx.Err()
}

// Settle implements pubsub.Session.
func (s *Session) Settle(_ context.Context, all []pubsub.Settlement) error {
	g := s.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, one := range all {
		serial, err := strconv.ParseUint(one.Position, 36, 64)
		it := s.flying[serial]
		if err != nil || it == nil || one.Outcome == pubsub.Extended {
			continue
		}
		delete(s.flying, serial)
		delay := one.Delay
		if one.Outcome != pubsub.Again {
			delay = 0
		}
		g.settle(it, one.Outcome, delay)
	}
	g.dispatch()
	return nil
}

// Close implements pubsub.Session.
func (s *Session) Close(ctx context.Context) error {
	g := s.g
	g.mu.Lock()
	for _, m := range s.out { // were never fetched
		serial, _ := strconv.ParseUint(m.Position, 36, 64)
		g.settle(s.flying[serial], pubsub.Returned, 0)
		delete(s.flying, serial)
	}
	for _, it := range s.flying {
		g.settle(it, pubsub.Again, 0)
	}
	s.out, s.flying, s.waits = nil, map[uint64]*item{}, false
	if i := slices.Index(g.sessions, s); i >= 0 {
		g.sessions = slices.Delete(g.sessions, i, i+1)
	}
	last := len(g.sessions) == 0 && !g.leaving
	g.leaving = g.leaving || last
	g.dispatch()
	ended := g.ended
	g.mu.Unlock()
	if last {
		err := g.keeper.Left(ctx)
		if err != nil {
			g.mu.Lock()
			g.abandoned = true
			g.mu.Unlock()
		}
		return err
	}
	g.keeper.Stir()
	if ended != nil {
		return nil
	}
	return g.keeper.Kept(ctx)
}
