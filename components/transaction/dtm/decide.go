package dtm

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/dtm-labs/client/dtmgrpc/dtmgpb"

	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

// Decide implements transaction.Driver.
func (d *driver) Decide(ctx context.Context, key string, what transaction.Decision) (transaction.Info, error) {
	return d.decide(ctx, key, what, false)
}

// DecideAndWait implements transaction.Awaiter.
func (d *driver) DecideAndWait(ctx context.Context, key string, what transaction.Decision) (transaction.Info, error) {
	return d.decide(ctx, key, what, what == transaction.Commit)
}

func (d *driver) decide(ctx context.Context, key string, what transaction.Decision, wait bool) (transaction.Info, error) {
	gid, r, c, p, err := d.read(ctx, key)
	if err != nil {
		return transaction.Info{}, err
	}
	info, err := d.info(ctx, key, r)
	if err != nil {
		return info, err
	}
	switch what {
	case transaction.Commit:
		return d.commit(ctx, gid, r, &c, p, info, wait)
	case transaction.Abort:
		return d.abort(ctx, gid, info)
	case transaction.Retry:
		if info.State.Final() {
			return info, transaction.Late(string(what), info.State)
		}
		if k := d.peek(gid); k != nil {
			k.again()
		}
		return info, d.web.look(ctx, gid)
	case transaction.GiveUp:
		return d.giveUp(ctx, gid, info)
	}
	return info, errors.ErrUnsupported
}

// commit commits a TCC, or submits a message.
func (d *driver) commit(ctx context.Context, gid string, r *record, c *custom, p transaction.Policy, info transaction.Info, wait bool) (transaction.Info, error) {
	if r.Row.Status != statusPrepared {
		if (info.State == transaction.Committing || info.State == transaction.Committed) && info.Kind != transaction.Saga {
			return info, nil
		}
		return info, transaction.Late("commit", info.State)
	}
	for i := range r.Ops {
		if o := &r.Ops[i]; o.Op == confirmOp && r.has(o.Branch, triedOp) == nil {
			b, err := d.unseal(gid, o.Payload)
			if err != nil || !b.Do.IsZero() {
				return info, errors.Join(err, transaction.NotTried(o.Branch))
			}
		}
	}
	in := &dtmgpb.DtmRequest{Gid: gid, TransType: r.Row.Type, CustomedData: r.Row.CustomData, QueryPrepared: r.Row.QueryPrepared,
		TransOptions: d.transOptions(info.Kind, false, p, wait)}
	if info.Kind == transaction.Message {
		// Of one that somebody else has submitted meanwhile DTM makes the deliveries that it is told here: without any it would be over at once.
		steps := []map[string]string{}
		for i := range r.Ops {
			steps, in.BinPayloads = append(steps, map[string]string{actionOp: r.Ops[i].URL}), append(in.BinPayloads, r.Ops[i].Payload)
		}
		text, err := json.Marshal(steps)
		if err != nil {
			return info, err
		}
		in.Steps = string(text)
	}
	submit := func(ctx context.Context) error { _, err := d.dtm.Submit(ctx, in); return err }
	failpoint.Hit("dtm.sends", "commit")
	if !d.maySubmit(gid, r, c) {
		return d.claim(ctx, gid, r, info)
	}
	var err error
	if wait {
		err = d.patient(ctx, gid, submit)
	} else {
		if err = d.ask(ctx, write, submit); err == nil {
			err = d.took(ctx, gid, statusPrepared)
		}
	}
	if err != nil {
		info, err = d.amiss(ctx, info.GID, gid, err)
		return d.settled(info, err, transaction.Commit)
	}
	if info = d.decided(info, wait); wait {
		info.State = transaction.Committed
		d.ended(gid, &info)
	}
	return info, nil
}

// decided is what is told of a transaction that was just committed.
func (d *driver) decided(info transaction.Info, done bool) transaction.Info {
	d.say(info.GID, transaction.Committing, "")
	info.State = transaction.Committing
	op := transaction.OpAction
	if info.Kind == transaction.TCC {
		op = transaction.OpConfirm
	}
	all := info.Branches
	info.Branches = nil
	for _, b := range all {
		if b.ID != transaction.CheckBranch || info.Kind == transaction.TCC {
			info.Branches = append(info.Branches, transaction.BranchInfo{ID: b.ID, Op: op, Done: done})
		}
	}
	return info
}

// settled is no error in the states that were to be come to. In the one before, DTM did not do it, and why is not known.
func (d *driver) settled(info transaction.Info, err error, what transaction.Decision) (transaction.Info, error) {
	there := map[transaction.Decision][]transaction.State{transaction.Commit: {transaction.Committing, transaction.Committed},
		transaction.Abort: {transaction.Aborting, transaction.Aborted}}
	switch {
	case err != nil, slices.Contains(there[what], info.State):
		return info, err
	case info.State == transaction.Prepared:
		return info, unavailable(errFaulty)
	}
	return info, transaction.Late(string(what), info.State)
}

func (d *driver) abort(ctx context.Context, gid string, info transaction.Info) (transaction.Info, error) {
	switch info.State {
	case transaction.Aborting, transaction.Aborted:
		return info, nil
	case transaction.Prepared:
		in := &dtmgpb.DtmRequest{Gid: gid, TransType: string(info.Kind), RollbackReason: "it was aborted"}
		failpoint.Hit("dtm.sends", "abort")
		if err := d.ask(ctx, write, func(ctx context.Context) error { _, err := d.dtm.Abort(ctx, in); return err }); err != nil {
			info, err = d.amiss(ctx, info.GID, gid, err)
			return d.settled(info, err, transaction.Abort)
		}
		if info.Kind == transaction.TCC {
			if now, err := d.unclaimed(ctx, gid, info); err != nil {
				return now, err
			}
		}
		if info.State, info.Reason = transaction.Aborting, in.RollbackReason; info.Kind == transaction.Message {
			info.State, info.Branches = transaction.Aborted, nil
		}
		d.sayDecided(gid, &info)
		return info, nil
	case transaction.Running:
		failpoint.Hit("dtm.sends", "mark")
		if err := d.mark(ctx, gid+abortMark); err != nil {
			return info, err
		}
		failpoint.Hit("dtm.marked", "")
		if k := d.peek(gid); k != nil {
			k.refuse()
			k.again()
		}
		return info, d.web.look(ctx, gid)
	}
	return info, transaction.Late(string(transaction.Abort), info.State)
}

func (d *driver) giveUp(ctx context.Context, gid string, info transaction.Info) (transaction.Info, error) {
	switch {
	case info.State == transaction.GivenUp:
		return info, nil
	case info.State.Final():
		return info, transaction.Late(string(transaction.GiveUp), info.State)
	}
	if err := d.mark(ctx, gid+givenUp); err != nil {
		return info, err
	}
	if k := d.peek(gid); k != nil {
		k.stop()
	}
	if err := d.web.stop(ctx, gid); err != nil {
		return info, err
	}
	info.State = transaction.GivenUp
	d.sayDecided(gid, &info)
	return info, nil
}

// mark has DTM keep a transaction of its own, without branches, which is over at once. One that is there already is as good.
func (d *driver) mark(ctx context.Context, gid string) error {
	in := &dtmgpb.DtmRequest{Gid: gid, TransType: string(transaction.Message), TransOptions: &dtmgpb.DtmTransOptions{WaitResult: true}}
	err := d.ask(ctx, write, func(ctx context.Context) error { _, err := d.dtm.Submit(ctx, in); return err })
	if err == nil || ctx.Err() != nil {
		return err
	}
	if there, look := d.web.exists(ctx, gid); look == nil && there {
		return nil
	}
	return unavailable(err)
}
