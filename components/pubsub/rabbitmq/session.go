package rabbitmq

import (
	"container/heap"
	"context"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// session is one stream's share of what a member has.
type session struct {
	m    *member
	room bool // it has some; guarded by m.mu
	held map[string]*entry
}

// Fetch implements pubsub.Session.
func (s *session) Fetch(ctx context.Context, room pubsub.Room) ([]pubsub.Message, error) {
	for {
		all, changed := s.take(room)
		if len(all) > 0 {
			return all, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take gives what there is, but not all of it where others have room, too.
func (s *session) take(room pubsub.Room) (all []pubsub.Message, changed <-chan struct{}) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if has := room.Messages > 0 && room.Bytes > 0; has != s.room {
		s.room = has
		m.stir()
	}
	sharers := 0
	for other := range m.sessions {
		if other.room {
			sharers++
		}
	}
	most := min(room.Messages, len(m.ready)/max(sharers, 1)+1, 256)
	for len(all) < most && len(m.ready) > 0 {
		e := m.ready[0]
		if e.dropped || e.part.leaving {
			heap.Pop(&m.ready)
			e.queued = false
			continue
		}
		if room.Bytes -= e.event.Size(); room.Bytes < 0 {
			break
		}
		heap.Pop(&m.ready)
		e.queued, e.holder = false, s
		e.attempt++
		e.due = time.Time{}
		e.part.given++
		e.part.dirty = true
		position := fmt.Sprintf("%d/%d", m.generation, e.offset)
		s.held[position] = e
		all = append(all, pubsub.Message{Position: position, Attempt: e.attempt, Event: e.event})
	}
	if len(all) > 0 && len(m.ready) > 0 {
		m.tell()
	}
	return all, m.changed
}

// Settle implements pubsub.Session.
func (s *session) Settle(_ context.Context, all []pubsub.Settlement) error {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range all {
		e := s.held[one.Position]
		if e == nil || one.Outcome == pubsub.Extended {
			continue
		}
		delete(s.held, one.Position)
		if e.dropped {
			continue
		}
		e.holder = nil
		e.part.given--
		e.part.dirty = true
		switch one.Outcome {
		case pubsub.Done:
			if next := e.part.remove(e); next != nil {
				m.offer(next)
			}
			m.pending--
		case pubsub.Returned:
			e.attempt--
			m.offer(e)
		default:
			if one.Delay > 0 {
				e.due = time.Now().Add(one.Delay)
			}
			m.offer(e)
		}
	}
	m.stir()
	return nil
}

// Close implements pubsub.Session.
func (s *session) Close(ctx context.Context) error {
	var all []pubsub.Settlement
	s.m.mu.Lock()
	for position := range s.held {
		all = append(all, pubsub.Settlement{Position: position, Outcome: pubsub.Again})
	}
	s.m.mu.Unlock()
	_ = s.Settle(ctx, all)
	return s.m.leave(ctx, s)
}
