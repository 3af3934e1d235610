package dtm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dtm-labs/client/dtmgrpc/dtmgpb"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

// Begin implements transaction.Driver.
func (d *driver) Begin(ctx context.Context, key string, c transaction.Content) (transaction.Info, error) {
	return d.begin(ctx, key, &c, false)
}

// BeginAndWait implements transaction.Awaiter.
func (d *driver) BeginAndWait(ctx context.Context, key string, c transaction.Content) (transaction.Info, error) {
	return d.begin(ctx, key, &c, c.Kind == transaction.Saga)
}

func (d *driver) begin(ctx context.Context, key string, c *transaction.Content, wait bool) (info transaction.Info, err error) {
	gid, err := d.gidOf(key)
	if err != nil {
		return info, err
	}
	request, err := d.request(gid, c, wait)
	if err != nil {
		return info, err
	}
	if !c.New {
		// DTM does not compare: it would go through the steps of the second one.
		there, end, err := d.alone(ctx, gid)
		if err != nil {
			return info, err
		}
		if there != nil {
			return d.again(ctx, key, c, there)
		}
		defer end()
	}
	d.forget(gid)
	k := d.remember(gid, &known{key: key, kind: c.Kind, told: d.toldOf(key), policy: c.Policy, trace: c.Trace, check: c.Check, own: true})
	began := time.Now()
	failpoint.Hit("dtm.sends", "begin")
	switch {
	case c.Kind != transaction.Saga:
		err = d.ask(ctx, write, func(ctx context.Context) error { _, err := d.dtm.Prepare(ctx, request); return err })
	case wait:
		err = d.patient(ctx, gid, func(ctx context.Context) error { _, err := d.dtm.Submit(ctx, request); return err })
	default:
		err = d.ask(ctx, write, func(ctx context.Context) error { _, err := d.dtm.Submit(ctx, request); return err })
	}
	if err == nil && !wait && c.Kind != transaction.TCC { // to a TCC that is not there no branch is added
		err = d.isStored(ctx, gid, k)
	}
	if err != nil {
		return d.amiss(ctx, key, gid, err)
	}
	d.sayBegun(k)
	info = transaction.Info{GID: key, Kind: c.Kind, State: begins[c.Kind], Began: began}
	if wait {
		info.State, info.Ended = transaction.Committed, time.Now()
		d.forget(gid)
		d.say(key, info.State, "")
	}
	for i := range c.Branches {
		info.Branches = append(info.Branches, transaction.BranchInfo{ID: c.Branches[i].ID, Op: transaction.OpAction, Done: wait})
	}
	return info, nil
}

var begins = map[transaction.Kind]transaction.State{transaction.Saga: transaction.Running, transaction.TCC: transaction.Prepared,
	transaction.Message: transaction.Prepared}

// aloneAgain is how often it is looked whether a transaction that is being begun is there.
const aloneAgain = 10 * time.Millisecond

// alone has one at a time of this process begin a gid, and answers what is there of it.
func (d *driver) alone(ctx context.Context, gid string) (there *record, end func(), err error) {
	for {
		d.mu.Lock()
		_, taken := d.newest[gid]
		if !taken {
			d.newest[gid] = struct{}{}
		}
		d.mu.Unlock()
		end = func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.newest, gid)
		}
		there, err = d.web.find(ctx, gid)
		absent := errors.Is(err, components.ErrNotFound)
		if !taken && absent {
			return nil, end, nil
		}
		if !taken {
			end()
		}
		if !absent {
			return there, nil, err
		}
		select {
		case <-time.After(aloneAgain):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// again is what a transaction is told that is there.
func (d *driver) again(ctx context.Context, key string, c *transaction.Content, there *record) (transaction.Info, error) {
	kept, _, err := readCustom(there.Row.CustomData)
	if err != nil || there.Row.Type != string(c.Kind) || kept.Ours.Digest != digest(c) {
		return transaction.Info{}, transaction.Exists()
	}
	return d.info(ctx, key, there)
}

// amiss answers how a transaction is after a call about it that went wrong. Of one that waits for the end that is how DTM tells of another one
// than success.
func (d *driver) amiss(ctx context.Context, key, gid string, why error) (transaction.Info, error) {
	if over := ctx.Err(); over != nil {
		return transaction.Info{}, over
	}
	if errors.Is(why, components.ErrExhausted) || isUnsent(why) {
		d.forget(gid)
		return transaction.Info{}, why
	}
	r, err := d.whatBecame(ctx, gid)
	if err != nil {
		if ctx.Err() != nil {
			return transaction.Info{}, ctx.Err()
		}
		if errors.Is(why, errRefused) || errors.Is(why, errFaulty) {
			if errors.Is(err, components.ErrNotFound) {
				d.forget(gid)
			}
			why = fmt.Errorf("%w: %w", components.ErrUnavailable, why)
		}
		return transaction.Info{}, why
	}
	info, err := d.info(ctx, key, r)
	if err == nil && info.State.Final() {
		d.ended(gid, &info)
	}
	return info, err
}

func isUnsent(err error) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == backend.ReasonUnreachable
}

// ended forgets a transaction, and says how it ended.
func (d *driver) ended(gid string, info *transaction.Info) {
	if k := d.peek(gid); k != nil {
		d.forget(gid)
		d.sayOver(k, info)
	}
}

// Register implements transaction.Driver.
func (d *driver) Register(ctx context.Context, key string, b transaction.Branch) error {
	gid, err := d.gidOf(key)
	if err != nil {
		return err
	}
	sealed, err := d.seal(gid, &b)
	if err != nil {
		return err
	}
	if err := d.room(ctx, key, gid); err != nil {
		return err
	}
	data := map[string]string{confirmOp: d.url(gid), cancelOp: d.url(gid)} // also without a cancel: it may have to be a confirm, see claim
	in := &dtmgpb.DtmBranchRequest{Gid: gid, TransType: string(transaction.TCC), BranchID: b.ID, BusiPayload: sealed, Data: data}
	failpoint.Hit("dtm.sends", "register")
	why := d.ask(ctx, write, func(ctx context.Context) error { _, err := d.dtm.RegisterBranch(ctx, in); return err })
	if why == nil || ctx.Err() != nil || isUnsent(why) {
		if k := d.peek(gid); k != nil && why == nil {
			k.more()
		}
		return why
	}
	r, err := d.whatBecame(ctx, gid)
	switch {
	case err != nil:
		return cmpErr(err, why)
	case r.Row.Type != string(transaction.TCC) || r.Row.Status != statusPrepared:
		return transaction.Late("register a branch", r.state())
	case r.has(b.ID, confirmOp) == nil:
		return unavailable(why)
	}
	there, err := d.unseal(gid, r.has(b.ID, confirmOp).Payload)
	if err == nil && !there.Same(&b) {
		err = transaction.BranchExists(b.ID)
	}
	return err
}

// room refuses more branches than DTM keeps in order. Those of a TCC that was begun here are counted here.
func (d *driver) room(ctx context.Context, key, gid string) error {
	n := 0
	if k := d.peek(gid); k != nil && k.own {
		n = k.count()
	} else {
		_, r, _, _, err := d.read(ctx, key)
		if err != nil {
			return err
		}
		for i := range r.Ops {
			if r.Ops[i].Op == confirmOp {
				n++
			}
		}
	}
	if n >= maxTried {
		return transaction.TooLarge("branches", "more branches than the %d that DTM is given", maxTried)
	}
	return nil
}

// Tried implements transaction.Driver. DTM keeps it as a record of the branch that it does not look at.
func (d *driver) Tried(ctx context.Context, key, branch string) error {
	gid, err := d.gidOf(key)
	if err != nil {
		return err
	}
	failpoint.Hit("dtm.sends", "tried")
	why := d.note(ctx, gid, branch, triedOp)
	if why == nil || ctx.Err() != nil || isUnsent(why) {
		return why
	}
	r, err := d.whatBecame(ctx, gid)
	switch {
	case err != nil:
		return cmpErr(err, why)
	case r.has(branch, triedOp) != nil:
		return nil
	case r.Row.Status != statusPrepared:
		return transaction.Late("note a try", r.state())
	}
	return unavailable(why)
}

// note has DTM keep a record of ours of a transaction that is prepared, once.
func (d *driver) note(ctx context.Context, gid, branch, what string) error {
	in := &dtmgpb.DtmBranchRequest{Gid: gid, TransType: "workflow", BranchID: branch, Data: map[string]string{"op": what, "status": statusSucceed, "sync": "1"}}
	return d.ask(ctx, write, func(ctx context.Context) error { _, err := d.dtm.RegisterBranch(ctx, in); return err })
}

// cmpErr is what is told when it could not be found out what became of a call.
func cmpErr(err, why error) error {
	if errors.Is(err, components.ErrNotFound) {
		return err
	}
	return unavailable(why)
}

// unavailable has an error of DTM's be one of a kind.
func unavailable(why error) error {
	if errors.Is(why, errRefused) || errors.Is(why, errFaulty) {
		return fmt.Errorf("%w: %w", components.ErrUnavailable, why)
	}
	return why
}
