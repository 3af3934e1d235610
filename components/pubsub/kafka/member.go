package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

const (
	// keepEvery is the time between what is settled and its being committed, which takes its own time.
	keepEvery = 100 * time.Millisecond
	// calm is the time between two rebalances that only make the shares fairer.
	calm = time.Second
	// settleDown bounds how long a new session waits for its share.
	settleDown = 3 * time.Second
)

// membership is what the group's goroutine knows of its place in Kafka's group.
type membership struct {
	name       string // Kafka's for the member; empty: it is not in the group
	generation int32
	joining    chan joined // result of a join under way; nil: none
	joinBy     time.Time   // a join is due; zero: none
	joinedAt   time.Time
	announced  int // of what is untold
	weight     int // that was announced
	partitions int32
	move       move
	more       bool    // shares are not what they will be
	asked      []int32 // partitions that other members are to have
	others     bool    // there are members elsewhere
	serial     uint64
	backoff    backend.Backoff
	waiting    []*ask
	consumer   sarama.Consumer
	readings   map[int32]*reading
	failing    int // how often in a row
}

// ask is what a session wants of the group's goroutine: that it is in the group, or that all that was settled is kept, or to leave.
type ask struct {
	ctx               context.Context
	join, leave, move bool
	to, number        int64 // of a move: the time; its number, once it has one
	since             time.Time
	done              chan error
}

// ask waits for the answer.
func (g *group) ask(a *ask) error {
	a.since = time.Now()
	select {
	case g.asks <- a:
	case <-g.gone:
		return nil
	case <-a.ctx.Done():
		return a.ctx.Err()
	}
	select {
	case err := <-a.done:
		return err
	case <-a.ctx.Done():
		return a.ctx.Err()
	}
}

func newMember() string { return rand.Text()[:10] }

var (
	errLeft = errors.New("it has left")
	errLost = errors.New("the group has gone on without this member")
)

// run is the member's goroutine, until the last session has ended.
func (g *group) run() {
	g.readings = map[int32]*reading{}
	g.joinBy = time.Now()
	beat, keep := time.NewTicker(g.d.opts.Heartbeat), time.NewTicker(keepEvery)
	defer beat.Stop()
	defer keep.Stop()
	soon := time.NewTimer(0)
	defer soon.Stop()
	for {
		var err error
		select {
		case r := <-g.joining:
			g.joining = nil
			if err = g.installed(r); err == nil {
				err = g.attend()
			}
		case <-beat.C:
			err = g.heartbeat()
		case <-keep.C:
			err = g.attend()
		case <-g.nudge:
		case a := <-g.asks:
			g.waiting = append(g.waiting, a)
			err = g.attend()
		case <-soon.C:
			if len(g.waiting) > 0 {
				err = g.attend()
			}
		}
		g.consider()
		if errors.Is(err, errLeft) {
			g.finish()
			return
		}
		g.took(err)
		if g.joining == nil && !g.joinBy.IsZero() && !time.Now().Before(g.joinBy) {
			g.took(g.join())
		}
		switch {
		case g.joining == nil && !g.joinBy.IsZero():
			soon.Reset(max(time.Until(g.joinBy), 0))
		case len(g.waiting) > 0:
			soon.Reset(10 * time.Millisecond)
		}
	}
}

// took says what comes of an error: to join anew, or to try again later.
func (g *group) took(err error) {
	switch {
	case err == nil:
		return
	case errors.Is(err, errLost):
		g.log.Warn("the group has gone on without this sidecar: what was under way comes again")
		g.Lose(newMember())
		g.name, g.joinBy = "", time.Now()
		return
	case denied(err):
		g.refuse(g.d.conn.failed(context.Background(), err))
	case errors.Is(err, sarama.ErrInconsistentGroupProtocol), errors.Is(err, sarama.ErrInvalidSessionTimeout), errors.Is(err, sarama.ErrInvalidGroupId):
		g.refuse(fmt.Errorf("%w: group %s of %s: %w", components.ErrPrecondition, g.id, g.d.conn.where, err))
	}
	if g.failing++; g.failing == 3 { // changes of leaders and coordinators are no news
		g.log.Warn("the group cannot be reached; it is tried again", "err", err)
	}
	if g.joining == nil && (g.name == "" || !g.joinBy.IsZero()) {
		g.joinBy = time.Now().Add(g.backoff.Next())
	}
}

// refuse ends what cannot be.
func (g *group) refuse(err error) {
	for _, a := range g.waiting {
		a.done <- err
	}
	g.waiting = nil
	g.End(err)
}

// finish undoes what run has made.
func (g *group) finish() {
	g.d.mu.Lock()
	delete(g.d.groups, g.id)
	g.d.mu.Unlock()
	g.Stop()
	close(g.gone)
	for _, a := range g.waiting {
		a.done <- nil
	}
	for _, r := range g.readings {
		if <-r.ended; r.own != nil {
			_ = r.own.Close()
		}
	}
	if g.consumer != nil {
		_ = g.consumer.Close()
	}
	if g.joining != nil { // Kafka would wait for the member
		if r := <-g.joining; r.name != g.name {
			g.name = r.name
			_ = g.leave()
		}
	}
}

// consider joins anew if there is something that others should know.
func (g *group) consider() {
	at := time.Time{}
	untold, news := g.Untold()
	switch {
	case g.name == "" || g.joining != nil || !g.joinBy.IsZero():
		return // it is being joined
	case news != g.announced && len(untold) > 0:
		at = time.Now()
	case g.others && g.Weight() != g.weight:
		at = g.joinedAt.Add(calm)
	}
	g.joinBy = at
}

// attend keeps what there is to keep, and answers those who wait.
func (g *group) attend() error {
	if err := g.flush(); err != nil {
		return err
	}
	g.waiting = slices.DeleteFunc(g.waiting, func(a *ask) bool { return a.ctx.Err() != nil })
	untold, _ := g.Untold()
	leaving, abandoned := g.Leaving()
	switch {
	case abandoned || leaving && g.name == "":
		return g.leave()
	case g.name == "" || len(g.waiting) == 0 && len(untold) == 0:
		return nil
	}
	committed, err := g.committed()
	if err != nil {
		return err
	}
	left := g.confirm(committed)
	var ended error
	g.waiting = slices.DeleteFunc(g.waiting, func(a *ask) bool {
		switch {
		case a.join:
			if !g.isIn(a, committed) {
				return false
			}
		case left > 0:
			return false
		case a.leave:
			ended = g.leave()
		}
		a.done <- nil
		return true
	})
	return ended
}

// isIn tells whether the group is as somebody who joins must find it: its place in all partitions is kept, and it has been moved, if
// that was asked for.
func (g *group) isIn(a *ask, committed map[int32]*parts.Progress) bool {
	if a.move && a.number == 0 {
		a.number = g.move.Number + 1
		for _, p := range committed {
			a.number = max(a.number, p.Moved+1)
		}
		g.move = move{a.number, a.to}
		g.joinBy = time.Now()
		return false
	}
	for p := range g.partitions {
		if c := committed[p]; c == nil || c.Moved < a.number {
			return false
		}
	}
	return g.partitions > 0 && (!g.more || time.Since(a.since) > settleDown)
}

// confirm forgets what the owners of partitions have kept, and answers how much is left. What is not kept for long is told again.
func (g *group) confirm(committed map[int32]*parts.Progress) int {
	for id, c := range committed {
		g.Confirm(id, c)
	}
	untold, _ := g.Untold()
	if len(untold) > 0 && g.joining == nil && g.joinBy.IsZero() && time.Since(g.joinedAt) > time.Second {
		g.joinBy = time.Now()
	}
	return len(untold)
}
