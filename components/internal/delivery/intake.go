package delivery

import (
	"context"
	"time"
)

// Intake is the ledger of a stream that fetches what it delivers. It knows of the fetch under way, which a change of what there is room
// for cuts short, and of the end of all deliveries. It is not safe for concurrent use.
type Intake[M any] struct {
	*Ledger[M]
	drained   bool
	told      bool               // by Begin, that it is
	interrupt context.CancelFunc // of the fetch under way
}

// NewIntake is NewLedger for a stream that fetches.
func NewIntake[M any](term time.Duration) *Intake[M] { return &Intake[M]{Ledger: NewLedger[M](term)} }

// Begin says how much a fetch is to ask for, which End has to follow. Its context ends with ctx, and when there is more room by then, or
// less. False: there is nothing more to fetch, which is said once; later fetches only wait for the end of ctx.
func (i *Intake[M]) Begin(ctx context.Context) (fetch context.Context, room Room, more bool) {
	if i.drained && !i.told {
		i.told = true
		return nil, Room{}, false
	}
	fetch, i.interrupt = context.WithCancel(ctx)
	return fetch, i.Room(), true
}

// End ends a fetch; of an intake that was put in the place of the one that began it, none.
func (i *Intake[M]) End() {
	i.Changed()
	i.interrupt = nil
}

// Changed cuts the fetch under way short, if there is one.
func (i *Intake[M]) Changed() {
	if i.interrupt != nil {
		i.interrupt()
	}
}

// Grant is that of the ledger. After Drain it means nothing.
func (i *Intake[M]) Grant(messages, bytes int64) error {
	if i.drained {
		return nil
	}
	if err := i.Ledger.Grant(messages, bytes); err != nil {
		return err
	}
	i.Changed()
	return nil
}

// Drain ends deliveries: the credit that is left is taken back, and Begin tells.
func (i *Intake[M]) Drain() {
	i.drained = true
	i.Revoke()
	i.Changed()
}
