package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

const (
	// most is how many events are taken at once: others may have room, too.
	most = 128
	// moreSettled is how many outcomes are told at once.
	moreSettled = 500
)

// session is one stream: a consumer of the stream's group.
type session struct {
	d        *driver
	topic    pubsub.Topic
	group    string
	consumer string
	keys     []string
	life     context.Context // of calls: they are not broken off, since they may be done
	end      context.CancelFunc
	stop     context.CancelFunc // of taking
	taking   chan struct{}      // closed when it has stopped
	telling  chan struct{}      // closed when all is told
	news     chan struct{}      // there may be something to take
	say      chan struct{}      // there is something to tell

	mu      sync.Mutex
	room    pubsub.Room // of a Fetch that waits
	waits   bool
	taken   []pubsub.Message // and not fetched
	came    chan struct{}    // taken or ended has changed
	serial  uint64
	flying  map[uint64]flight
	outcome []settled
	told    []settled // that the server is being told
	closing bool
	ended   error
}

// flight is a delivery that is not settled.
type flight struct {
	moved   int64
	id      string
	attempt int
}

type settled struct {
	flight
	outcome string
	delay   time.Duration
}

// Subscribe implements pubsub.Driver.
func (d *driver) Subscribe(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stopped, stop := context.WithCancel(life)
	one := &session{d: d, topic: s.Topic, group: s.Group, consumer: rand.Text()[:12], keys: []string{d.stream(s.Topic), d.group(s.Topic, s.Group)},
		life: life, end: end, stop: stop, taking: make(chan struct{}), telling: make(chan struct{}), news: make(chan struct{}, 1), say: make(chan struct{}, 1), came: make(chan struct{}, 1), flying: map[uint64]flight{}}
	from, to := "$", ""
	if s.Earliest {
		from = "0"
	}
	if !s.ReplayFrom.IsZero() {
		to = before(s.ReplayFrom)
	}
	if _, err := one.join(ctx, from, to); err != nil {
		end()
		return nil, err
	}
	d.bell.add(d.channel(s.Topic), one)
	go one.take(stopped)
	go one.tell()
	return one, nil
}

// before is the last id before a time.
func before(t time.Time) string {
	ms := max(t.UnixMilli(), 0)
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	if ms == 0 {
		return "0-0"
	}
	return fmt.Sprintf("%d-%d", ms-1, uint64(1<<64-1))
}

// join makes the group if it is not there, and answers whether that was so.
func (s *session) join(ctx context.Context, from, to string) (bool, error) {
	answer, err := s.eval(ctx, joinScript, s.timeout(), from, to)
	if err != nil {
		return false, err
	}
	return len(answer) == 2 && answer[1] == int64(1), nil
}

func (s *session) timeout() int64 { return s.d.opts.SessionTimeout.Milliseconds() }

func (s *session) eval(ctx context.Context, script redisconn.Script, args ...any) ([]any, error) {
	all := append([]any{s.group, s.consumer, s.d.channel(s.topic)}, args...)
	answer, err := s.d.Eval(ctx, redisconn.Write, script, s.keys, all...)
	if err != nil {
		return nil, err
	}
	list, _ := answer.([]any)
	return list, nil
}

// again is eval until it succeeds, or ctx ends between two tries. A group that the server has lost is made again; other failures are told once.
func (s *session) again(ctx context.Context, script redisconn.Script, args ...any) ([]any, error) {
	var wait backend.Backoff
	for told := false; ; {
		answer, err := s.eval(s.life, script, args...)
		if err != nil && strings.Contains(err.Error(), "NOGROUP") {
			var made bool
			if made, err = s.join(s.life, "0", ""); err == nil {
				if made {
					s.d.log.Warn("the server has lost a group: it is made again, from the oldest event on", "topic", s.topic.Name, "group", s.group)
				}
				continue
			}
		}
		if err == nil || ctx.Err() != nil {
			return answer, err
		}
		if !told {
			s.d.log.Warn("the server cannot be asked for events; it is tried again", "topic", s.topic.Name, "group", s.group, "err", err)
			told = true
		}
		if err := wait.Wait(ctx); err != nil {
			return nil, err
		}
	}
}

// take asks for events whenever somebody waits for them and there may be some, and says that the consumer is there.
func (s *session) take(ctx context.Context) {
	defer close(s.taking)
	beat := s.d.opts.SessionTimeout / 3
	timer := time.NewTimer(0)
	defer timer.Stop()
	compared := time.Now()
	for number := 1; ; {
		s.mu.Lock()
		room := pubsub.Room{}
		if s.waits && len(s.taken) == 0 {
			room = s.room
		}
		s.mu.Unlock()
		answer, err := s.again(ctx, takeScript, s.timeout(), strconv.Itoa(number), min(room.Messages, most), room.Bytes)
		if err != nil {
			return // it has ended
		}
		number++
		pending, after := s.enter(answer)
		if pending > 0 && time.Since(compared) >= beat {
			compared = time.Now()
			if s.compare(ctx, answer[4]) != nil {
				return
			}
		}
		next := beat
		if after >= 0 {
			next = min(next, after)
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		case <-timer.C:
		}
	}
}

// compare has delivered again what the server takes the consumer to have, and it has not. That is what it has settled, and the server has forgotten
// that: a replica that takes over may not have heard of it, and nobody else would be given what an ordering key waits for.
// asked is the server's time of the answer before, so that a comparison which is long on its way does not take what has been delivered since.
func (s *session) compare(ctx context.Context, asked any) error {
	s.mu.Lock()
	has := make([]any, 0, 1+len(s.flying)+len(s.outcome)+len(s.told))
	has = append(has, asked)
	for _, f := range s.flying {
		has = append(has, f.id)
	}
	for _, all := range [...][]settled{s.outcome, s.told} {
		for _, one := range all {
			has = append(has, one.id)
		}
	}
	s.mu.Unlock()
	answer, err := s.again(ctx, compareScript, has...)
	if err != nil || len(answer) != 1 {
		return err
	}
	if forgotten, _ := answer[0].(int64); forgotten > 0 {
		s.d.log.Warn("the server has forgotten that events were settled: they are delivered again", "topic", s.topic.Name, "group", s.group, "events", forgotten)
	}
	return nil
}

// enter takes in what was taken, and answers how much the consumer had before, as the server has it, and after what time there is something more;
// negative: it is not known of.
func (s *session) enter(answer []any) (pending int64, after time.Duration) {
	if len(answer) != 5 {
		return 0, -1
	}
	moved, _ := answer[0].(int64)
	pending, _ = answer[3].(int64)
	ms, _ := answer[1].(int64)
	all, _ := answer[2].([]any)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range all {
		parts, _ := one.([]any)
		if len(parts) != 3 {
			continue
		}
		id, _ := parts[0].(string)
		attempt, _ := parts[1].(int64)
		list, _ := parts[2].([]any)
		fields := map[string]string{}
		for i := 0; i+1 < len(list); i += 2 {
			name, _ := list[i].(string)
			fields[name], _ = list[i+1].(string)
		}
		f := flight{moved, id, int(attempt)}
		e, err := decode(id, fields)
		if err != nil {
			s.d.log.Error("an event cannot be read: it is left out", "topic", s.topic.Name, "group", s.group, "err", err)
			s.outcome = append(s.outcome, settled{flight: f, outcome: "done"})
			poke(s.say)
			continue
		}
		s.serial++
		s.flying[s.serial] = f
		s.taken = append(s.taken, pubsub.Message{Position: strconv.FormatUint(s.serial, 36), Attempt: f.attempt, Event: e})
	}
	if len(s.taken) > 0 {
		poke(s.came)
		return pending, -1 // the next Fetch asks
	}
	if !s.waits || s.room.Messages == 0 {
		return pending, -1
	}
	return pending, time.Duration(ms) * time.Millisecond
}

// Fetch implements pubsub.Session.
func (s *session) Fetch(ctx context.Context, room pubsub.Room) ([]pubsub.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room, s.waits = room, true
	defer func() { s.waits = false }()
	if room.Messages > 0 && len(s.taken) == 0 {
		poke(s.news)
	}
	for {
		if out := s.fetch(room); len(out) > 0 || s.ended != nil {
			return out, s.ended
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.mu.Unlock()
		select {
		case <-s.came:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
}

// fetch answers what is taken and fits. What does not goes back.
func (s *session) fetch(room pubsub.Room) []pubsub.Message {
	n := 0
	for ; n < len(s.taken) && n < room.Messages; n++ {
		if size := s.taken[n].Event.Size(); size > room.Bytes {
			break
		} else {
			room.Bytes -= size
		}
	}
	out, back := s.taken[:n:n], s.taken[n:]
	s.taken = nil
	for _, m := range back {
		s.settle(m.Position, "returned", 0)
	}
	return out
}

func (s *session) settle(position, outcome string, delay time.Duration) {
	serial, err := strconv.ParseUint(position, 36, 64)
	f, ok := s.flying[serial]
	if err != nil || !ok {
		return
	}
	delete(s.flying, serial)
	s.outcome = append(s.outcome, settled{f, outcome, delay})
	poke(s.say)
}

// Settle implements pubsub.Session.
func (s *session) Settle(_ context.Context, all []pubsub.Settlement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range all {
		switch one.Outcome {
		case pubsub.Done:
			s.settle(one.Position, "done", 0)
		case pubsub.Again:
			s.settle(one.Position, "again", one.Delay)
		case pubsub.Returned:
			s.settle(one.Position, "returned", 0)
		}
	}
	return nil
}

// tell tells the server what became of deliveries, all that has come together meanwhile at once.
func (s *session) tell() {
	defer close(s.telling)
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.say:
		}
		for {
			s.mu.Lock()
			n := min(len(s.outcome), moreSettled)
			some := s.outcome[:n:n]
			s.outcome, s.told = s.outcome[n:], some
			closing := s.closing
			s.mu.Unlock()
			if n == 0 {
				if closing {
					return
				}
				break
			}
			args := make([]any, 0, 5*n)
			for _, one := range some {
				delay := (one.delay + time.Millisecond - 1).Milliseconds()
				args = append(args, one.moved, one.id, one.attempt, one.outcome, delay)
			}
			if _, err := s.again(s.life, settleScript, args...); err != nil {
				return // it has ended
			}
		}
	}
}

// Close implements pubsub.Session.
func (s *session) Close(ctx context.Context) error {
	defer s.end()
	defer context.AfterFunc(ctx, s.end)()
	s.d.bell.remove(s.d.channel(s.topic), s)
	s.stop()
	<-s.taking
	s.mu.Lock()
	for _, m := range s.taken {
		s.settle(m.Position, "returned", 0)
	}
	for _, f := range s.flying {
		s.outcome = append(s.outcome, settled{f, "again", 0})
	}
	s.taken, s.flying, s.closing = nil, map[uint64]flight{}, true
	s.mu.Unlock()
	poke(s.say)
	<-s.telling
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := s.eval(ctx, leaveScript)
	if err != nil && strings.Contains(err.Error(), "NOGROUP") {
		return nil
	}
	return err
}
