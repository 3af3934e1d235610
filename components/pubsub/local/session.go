package local

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// session is the driver's side of a member.
type session struct {
	stream store.Stream[up, down]
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	offered pubsub.Room // to the machine, and not used
	last    uint64      // serial that has come
	fetched []pubsub.Message
	next    up            // to be said
	closing bool          // nothing more will be said
	ended   error         // why nothing more comes
	news    chan struct{} // fetched or ended has changed
	say     chan struct{} // next or closing has changed
}

func (d *driver) Subscribe(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel) // while it joins
	defer stop()
	stream, err := subscribeStream.Open(life, d.Link)
	if err != nil {
		cancel()
		return nil, err
	}
	if err := d.start(stream, s); err != nil {
		cancel()
		stream.Close()
		return nil, err
	}
	one := &session{stream: stream, cancel: cancel, news: make(chan struct{}, 1), say: make(chan struct{}, 1)}
	one.tasks.Go(one.send)
	one.tasks.Go(one.receive)
	return one, nil
}

func (d *driver) start(stream store.Stream[up, down], s pubsub.Subscription) error {
	in := &start{Component: d.component, Namespace: s.Topic.Namespace, Topic: s.Topic.Name, Group: s.Group, Settings: d.settings(),
		Earliest: s.Earliest, AckDeadline: s.AckDeadline}
	if !s.ReplayFrom.IsZero() {
		in.Replay, in.ReplayFrom = true, nanoseconds(s.ReplayFrom.Unix(), s.ReplayFrom.UnixNano())
	}
	if err := stream.Send(up{Start: in}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err := stream.Recv()
	return err
}

// nanoseconds are those of a time, or the nearest that there can be.
func nanoseconds(seconds, nanos int64) int64 {
	switch {
	case seconds > math.MaxInt64/int64(time.Second)-1:
		return math.MaxInt64
	case seconds < math.MinInt64/int64(time.Second)+1:
		return math.MinInt64
	}
	return nanos
}

func (s *session) Fetch(ctx context.Context, room pubsub.Room) ([]pubsub.Message, error) {
	for {
		messages, err := s.take(room)
		if len(messages) > 0 || err != nil {
			return messages, err
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take answers what is there and fits. If that is nothing it gives back what there is, and has the machine offer what there is
// room for.
func (s *session) take(room pubsub.Room) (messages []pubsub.Message, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for left := room; n < len(s.fetched); n++ {
		size := s.fetched[n].Event.Size()
		if left.Messages == 0 || left.Bytes < size {
			break
		}
		left = pubsub.Room{Messages: left.Messages - 1, Bytes: left.Bytes - size}
	}
	if n > 0 {
		messages, s.fetched = s.fetched[:n:n], s.fetched[n:]
		return messages, nil
	}
	if s.ended != nil {
		return nil, s.ended
	}
	s.giveBack()
	if s.offered.Messages > room.Messages || s.offered.Bytes > room.Bytes {
		s.next.Pause, s.next.Messages, s.next.Bytes = true, 0, 0
		s.offered = pubsub.Room{}
		nudge(s.say)
	}
	if more := room.Messages - s.offered.Messages; more > 0 || room.Bytes > s.offered.Bytes {
		s.next.Messages += more
		s.next.Bytes += room.Bytes - s.offered.Bytes
		s.offered = room
		nudge(s.say)
	}
	return nil, nil
}

// giveBack is for what has come and was not taken.
func (s *session) giveBack() {
	for _, m := range s.fetched {
		s.settle(m.Position, pubsub.Returned, 0)
		nudge(s.say)
	}
	s.fetched = nil
}

func (s *session) settle(position string, o pubsub.Outcome, delay time.Duration) {
	serial, err := strconv.ParseUint(position, 36, 64)
	if err != nil {
		return // it is none of ours
	}
	s.next.Settled = append(s.next.Settled, settled{serial, o, delay})
}

func (s *session) Settle(_ context.Context, all []pubsub.Settlement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range all {
		s.settle(one.Position, one.Outcome, one.Delay)
	}
	nudge(s.say)
	return nil
}

// send says to the machine what there is to say, all that has come together meanwhile at once.
func (s *session) send() {
	for range s.say {
		s.mu.Lock()
		in, closing := s.next, s.closing
		s.next = up{}
		s.mu.Unlock()
		if in.Pause || in.Messages != 0 || in.Bytes != 0 || in.Last || len(in.Settled) > 0 {
			if s.stream.Send(in) != nil {
				return // receive tells why
			}
		}
		if closing {
			_ = s.stream.CloseSend() // Recv tells how it went
			return
		}
	}
}

func (s *session) receive() {
	for {
		out, err := s.stream.Recv()
		s.mu.Lock()
		s.fetched = slices.Grow(s.fetched, len(out.Messages))
		for i := range out.Messages {
			m := &out.Messages[i]
			e := m.Event.plain()
			s.last = m.Serial
			s.offered = pubsub.Room{Messages: max(s.offered.Messages-1, 0), Bytes: max(s.offered.Bytes-e.Size(), 0)}
			s.fetched = append(s.fetched, pubsub.Message{Position: strconv.FormatUint(m.Serial, 36), Attempt: m.Attempt, Event: e})
		}
		s.ended = err
		s.mu.Unlock()
		nudge(s.news)
		if err != nil {
			return
		}
	}
}

// Close says what is still to be said, and waits until the machine has kept it.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	s.giveBack()
	s.closing, s.next.Last, s.next.Received = true, true, s.last
	s.mu.Unlock()
	nudge(s.say)
	stop := context.AfterFunc(ctx, s.cancel)
	s.tasks.Wait()
	stop()
	s.cancel()
	s.stream.Close()
	if errors.Is(s.ended, io.EOF) {
		return nil
	}
	return s.ended
}
