package dtm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

// known is what this process knows of a transaction that it began or was called for. DTM calls again what it knows no outcome of, at times by
// two of its goroutines at once: here a call is made once at a time, and an outcome that was come to is answered without a call.
type known struct {
	key    string
	kind   transaction.Kind
	told   string // what branches are told as the gid
	policy transaction.Policy
	trace  map[string]string
	check  transaction.Target
	own    bool // it was begun here
	stored atomic.Bool
	// submitted is that DTM may have been told to submit it, a TCC that was begun here.
	submitted atomic.Bool
	begun     sync.Once // that was logged
	over      sync.Once // so was that

	mu       sync.Mutex
	refused  error // not nil: actions are not called any more
	stopped  bool  // an operator has given it up
	undoing  bool  // that was logged
	cancels  *bool // whether the cancels of a TCC are any, and no confirms; nil: it was not asked
	tries    int   // branches of a TCC that were registered here
	branches map[string]*branch
	seen     time.Time // when DTM called last
}

// branch is what became of the calls of one branch.
type branch struct {
	op       string
	attempts int       // of op
	tries    int       // since pauses began anew
	last     string    // what the last attempt came to, if that is not known to be OK
	next     time.Time // not before this
	outcome  outcome
	why      error    // of failed
	call     *running // under way
}

type outcome int

const (
	unknown outcome = iota
	done
	failed
)

type running struct {
	over   chan struct{}
	cancel context.CancelFunc
}

var (
	errOngoing = errors.New("its outcome is not known yet")
	errAborted = transaction.Failed(errors.New("the transaction was aborted"))
	errLate    = transaction.Failed(errors.New("it was taken back"))
)

func (k *known) branch(id string) *branch {
	b := k.branches[id]
	if b == nil {
		if k.branches == nil {
			k.branches = map[string]*branch{}
		}
		b = &branch{}
		k.branches[id] = b
	}
	return b
}

// shortHold is how long DTM waits for a call that it makes again: the one goroutine of its that looks for what is left must not be held up.
const shortHold = time.Second

// attempt makes a call of a branch, unless there is one under way, its outcome is known or its pause lasts. It answers nil, an error that
// HasFailed or errOngoing. An attempt goes on when ctx ends, and what it comes to is answered the next time.
func (s *session) attempt(ctx context.Context, k *known, id, op string, target *transaction.Target) error {
	k.mu.Lock()
	b := k.branch(id)
	for b.op != op {
		if b.op == transaction.OpCompensation { // an action that comes late
			k.mu.Unlock()
			return errLate
		}
		if b.call == nil {
			*b = branch{op: op}
			break
		}
		call := b.call // one call of a branch at a time
		call.cancel()
		k.mu.Unlock()
		<-call.over
		k.mu.Lock()
	}
	if k.stopped {
		k.mu.Unlock()
		return errOngoing
	}
	call := b.call
	switch {
	case call != nil:
	case b.outcome != unknown:
		defer k.mu.Unlock()
		return b.why
	case op == transaction.OpAction && k.refused != nil:
		defer k.mu.Unlock()
		return k.refused
	case time.Now().Before(b.next):
		k.mu.Unlock()
		return errOngoing
	default:
		call = s.start(k, b, id, op, target)
	}
	hold := shortHold
	if b.attempts == 1 {
		hold = k.policy.CallTimeout + shortHold
	}
	k.mu.Unlock()
	timer := time.NewTimer(hold)
	defer timer.Stop()
	select {
	case <-call.over:
	case <-timer.C:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if b.op != op || b.outcome == unknown {
		return errOngoing
	}
	if b.outcome == done && op == transaction.OpAction && k.kind == transaction.Saga && k.refused != nil {
		return k.refused // the decision counts: what was done is compensated
	}
	return b.why
}

// start begins a call. k.mu is held.
func (s *session) start(k *known, b *branch, id, op string, target *transaction.Target) *running {
	ctx, cancel := context.WithTimeout(s.life, k.policy.CallTimeout)
	call := &running{over: make(chan struct{}), cancel: cancel}
	b.call = call
	b.attempts++
	b.tries++
	in := &transaction.Call{GID: k.told, Kind: k.kind, Branch: id, Op: op, Attempt: b.attempts, Target: *target, Trace: k.trace}
	s.work.Go(func() {
		defer cancel()
		failpoint.Hit("dtm.call", op)
		err := s.make(ctx, in)
		failpoint.Hit("dtm.answered", op)
		k.mu.Lock()
		defer k.mu.Unlock()
		b.call = nil
		b.came(err, op == transaction.OpCheck || op == transaction.OpAction && k.kind == transaction.Saga, k.policy)
		close(call.over)
	})
	return call
}

// make waits for one of the places.
func (s *session) make(ctx context.Context, in *transaction.Call) error {
	select {
	case s.d.places <- struct{}{}:
		defer func() { <-s.d.places }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.call(ctx, in)
}

// came takes in what an attempt came to. Only what may refuse can fail; the others are called until they are OK.
func (b *branch) came(err error, mayRefuse bool, p transaction.Policy) {
	switch {
	case err == nil:
		b.outcome, b.last, b.next = done, "", time.Time{}
	case mayRefuse && transaction.HasFailed(err):
		b.outcome, b.why, b.last = failed, err, err.Error()
	default:
		pause := p.FirstPause
		for i := 1; i < b.tries && pause < p.LongPause; i++ {
			pause *= 2
		}
		b.last, b.next = err.Error(), time.Now().Add(min(pause, p.LongPause))
	}
}

func (k *known) more() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tries++
	k.seen = time.Now()
}

func (k *known) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tries
}

func (k *known) isStopped() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stopped
}

// again has pauses end, and begin anew.
func (k *known) again() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.branches {
		b.attempts, b.tries, b.next = 0, 0, time.Time{}
	}
}

// refuse keeps actions from being called from now on.
func (k *known) refuse() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = errAborted
}

// stop has nothing called any more.
func (k *known) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	for _, b := range k.branches {
		if b.call != nil {
			b.call.cancel()
		}
	}
}

// progress is what is told of a branch beside what DTM knows.
func (k *known) progress(id, op string, info *transaction.BranchInfo) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.branches[id]
	if b == nil || b.op != op || info.Done {
		return
	}
	info.Attempts, info.Last = b.attempts, b.last
	if left := time.Until(b.next); left > 0 {
		info.Pause = left
	}
}

// stuck tells whether something that has to succeed was called in vain that often.
func (k *known) stuck() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.branches {
		if b.outcome == unknown && b.attempts >= transaction.StuckAfter && (b.op != transaction.OpAction || k.kind == transaction.Message) && b.op != transaction.OpCheck {
			return true
		}
	}
	return false
}

// idle tells whether DTM has not called for so long that what is known may be forgotten: after that branches are called anew.
func (k *known) idle(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.branches {
		if b.call != nil {
			return false
		}
	}
	return now.Sub(k.seen) > forgetAfter
}

// waits tells whether DTM should have called by now for a branch without an outcome.
func (k *known) waits(now time.Time, within time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.branches {
		if b.outcome == unknown && b.call == nil && now.After(b.next.Add(within)) && now.Sub(k.seen) > within {
			return true
		}
	}
	return false
}

const (
	forgetAfter = time.Minute
	maxReason   = 200 // bytes; DTM has 1024 for it and a URL
)

// reason is what DTM is told of a refusal: its data bases bear neither much nor all.
func reason(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(err.Error(), "?"))
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}
