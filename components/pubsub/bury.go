package pubsub

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// The metadata of a dead letter, beside its own.
const (
	MetaReason   = "deadletterreason" // rejected, or attempts
	MetaText     = "deadlettertext"   // what the application said when it rejected the event
	MetaTopic    = "deadlettertopic"  // where the event was from
	MetaGroup    = "deadlettergroup"
	MetaAttempts = "deadletterattempts"
)

const (
	reasonRejected = "rejected"
	reasonAttempts = "attempts"
)

const (
	maxReasonText = 1 << 10
	retryBurial   = time.Second // after which the event is tried for once more
)

// burial is an event that will not be handled.
type burial struct {
	message  Message
	attempts int
	reason   string
	text     string
}

// bury has watch do it: the application's other deliveries must not wait for the back end. Until then it takes its place among
// what the stream holds.
func (s *Stream) bury(b burial) {
	s.ledger.Reserve(b.message.Event.Size())
	s.buried = append(s.buried, b)
	s.stir()
}

// burial puts what is given up into the dead-letter topic, and settles it then. What cannot be put there comes again.
func (s *Stream) burial(ctx context.Context) {
	s.mu.Lock()
	all := s.buried
	s.buried = nil
	s.mu.Unlock()
	for len(all) > 0 {
		n := min(len(all), MaxMany)
		s.buryAll(ctx, all[:n])
		all = all[n:]
	}
}

func (s *Stream) buryAll(ctx context.Context, all []burial) {
	to := Topic{s.sub.Topic.Namespace, s.policy.DeadLetterTopic}
	if to.Name == "" || to == s.sub.Topic {
		s.drop(all)
		return
	}
	letters := make([]Publication, len(all))
	for i := range all {
		letters[i] = Publication{Topic: to, Event: s.letter(&all[i])}
	}
	results, err := s.call.Driver.Publish(ctx, letters)
	if err == nil && len(results) != len(letters) {
		err = fmt.Errorf("the driver answered %d results for %d events", len(results), len(letters))
	}
	settled := make([]Settlement, len(all))
	done := 0
	for i := range all {
		settled[i].Position = all[i].message.Position
		failed := err
		if failed == nil {
			failed = results[i].Err
		}
		if failed == nil {
			done++
			continue
		}
		settled[i].Outcome, settled[i].Delay = Again, s.policy.delay(retryBurial)
		s.front.opts.Logger.Warn("a dead letter could not be kept", "capability", "pubsub", "component", s.front.component.ID().Name, "op", "publish", "err", failed)
	}
	s.front.count(CountBuried, done)
	s.finish(all, settled)
}

// drop is for where no dead-letter topic is set, and for dead letters themselves.
func (s *Stream) drop(all []burial) {
	settled := make([]Settlement, len(all))
	for i, b := range all {
		settled[i] = Settlement{Position: b.message.Position, Outcome: Done}
	}
	s.front.count(CountDropped, len(all))
	s.front.opts.Logger.Warn("events were dropped: there is no dead-letter topic for them", "capability", "pubsub",
		"component", s.front.component.ID().Name, "op", "subscribe", "events", len(all), "reason", all[0].reason)
	s.finish(all, settled)
}

func (s *Stream) finish(all []burial, settled []Settlement) {
	s.mu.Lock()
	s.freeing(func() {
		for i := range all {
			s.ledger.Release(all[i].message.Event.Size())
		}
	})
	s.mu.Unlock()
	if err := s.tell(settled); err != nil {
		s.cancel(err)
	}
}

// letter is the event, with what became of it.
func (s *Stream) letter(b *burial) Event {
	e := b.message.Event
	e.Metadata = maps.Clone(e.Metadata)
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	e.Metadata[MetaReason], e.Metadata[MetaTopic], e.Metadata[MetaGroup] = b.reason, s.sub.Topic.Name, s.sub.Group
	e.Metadata[MetaAttempts] = strconv.Itoa(b.attempts)
	delete(e.Metadata, MetaText)
	if b.text != "" {
		e.Metadata[MetaText] = strings.ToValidUTF8(b.text[:min(len(b.text), maxReasonText)], "")
	}
	complete(&e, s.caller) // a foreign message may lack what an event must have
	return e
}
