package dtm

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// has is the record of a branch for an operation; nil: there is none.
func (r *record) has(branch, what string) *op {
	for i := range r.Ops {
		if r.Ops[i].Branch == branch && r.Ops[i].Op == what {
			return &r.Ops[i]
		}
	}
	return nil
}

// stateOf is where a transaction is. One that was given up DTM calls failed, too.
func stateOf(r *row) transaction.State {
	switch r.Status {
	case statusPrepared:
		return transaction.Prepared
	case statusAborting:
		return transaction.Aborting
	case statusSucceed:
		return transaction.Committed
	case statusFailed:
		return transaction.Aborted
	}
	if r.Type == string(transaction.Saga) {
		return transaction.Running
	}
	return transaction.Committing
}

// head is what is told of a transaction but its branches.
func (r *record) head(key string) transaction.Info {
	i := head(key, r.Row)
	if i.State = r.state(); r.claimed() {
		i.Reason = ""
	}
	return i
}

// head is what the row alone tells.
func head(key string, r *row) transaction.Info {
	i := transaction.Info{GID: key, Kind: transaction.Kind(r.Type), State: stateOf(r), Reason: why(r.RollbackReason)}
	if r.CreateTime != nil {
		i.Began = *r.CreateTime
	}
	if i.State.Final() {
		for _, t := range []*time.Time{r.FinishTime, r.RollbackTime} {
			if t != nil {
				i.Ended = *t
			}
		}
	}
	return i
}

// why is a reason without what DTM puts around it.
func why(text string) string {
	if _, said, found := strings.Cut(text, " return failed: "); found {
		text = said
	}
	return strings.TrimSuffix(text, " FAILURE")
}

// info is what is told of a transaction.
func (d *driver) info(ctx context.Context, key string, r *record) (transaction.Info, error) {
	i := r.head(key)
	if r.Row.Status == statusFailed {
		stopped, err := d.web.exists(ctx, r.Row.Gid+givenUp)
		if err != nil {
			return i, err
		}
		if stopped {
			i.State = transaction.GivenUp
		}
	}
	k := d.peek(r.Row.Gid)
	if k != nil && i.Kind == transaction.Message && i.State == transaction.Prepared {
		check := transaction.BranchInfo{ID: transaction.CheckBranch, Op: transaction.OpCheck}
		k.progress(check.ID, check.Op, &check)
		i.Branches = append(i.Branches, check)
	}
	for at := range r.Ops {
		o := &r.Ops[at]
		if o.Op != actionOp && o.Op != confirmOp { // one of each branch
			continue
		}
		b, err := d.unseal(r.Row.Gid, o.Payload)
		if err != nil {
			return i, errors.Join(components.ErrDamaged, err)
		}
		if o.Op == actionOp && o.Status == statusFailed {
			i.Failed = b.ID
		}
		info := about(r, o, &b, i.State)
		if k != nil {
			k.progress(b.ID, info.Op, &info)
		}
		i.Branches = append(i.Branches, info)
	}
	return i, nil
}

// about is what a branch is called for in a state, or was, and whether that was OK.
func about(r *record, o *op, b *transaction.Branch, state transaction.State) transaction.BranchInfo {
	is := func(what string) bool {
		there := r.has(o.Branch, what)
		return there != nil && there.Status == statusSucceed
	}
	back := state == transaction.Aborting || state == transaction.Aborted
	info := transaction.BranchInfo{ID: b.ID, Op: transaction.OpAction, Done: o.Status == statusSucceed}
	switch {
	case o.Op == confirmOp && state == transaction.Prepared:
		info.Op, info.Done = transaction.OpTry, is(triedOp)
	case o.Op == confirmOp && back:
		info.Op, info.Done = transaction.OpCancel, is(cancelOp)
	case o.Op == confirmOp:
		info.Op, info.Done = transaction.OpConfirm, info.Done || is(cancelOp) // see claim
	case back && r.Row.Type == string(transaction.Saga) && !b.Undo.IsZero() && (o.Status != statusPrepared || is(compensateOp)):
		info.Op, info.Done = transaction.OpCompensation, is(compensateOp)
	}
	return info
}

// Get implements transaction.Driver.
func (d *driver) Get(ctx context.Context, key string) (transaction.Info, error) {
	gid, r, _, _, err := d.read(ctx, key)
	if err != nil {
		return transaction.Info{}, err
	}
	info, err := d.info(ctx, key, r)
	if k := d.peek(gid); err == nil && info.State.Final() && k != nil { // who asks is the first to know
		d.sayOver(k, &info)
	}
	return info, err
}

// Wait implements transaction.Driver: it asks DTM. While that is away it waits, too.
func (d *driver) Wait(ctx context.Context, key string) (transaction.Info, error) {
	wait := backend.Backoff{First: 10 * time.Millisecond, Most: 500 * time.Millisecond}
	for {
		gid, r, _, _, err := d.read(ctx, key)
		switch {
		case ctx.Err() != nil:
			return transaction.Info{}, ctx.Err()
		case err != nil && !errors.Is(err, components.ErrUnavailable):
			return transaction.Info{}, err
		case err == nil && stateOf(r.Row).Final():
			info, err := d.info(ctx, key, r)
			if err == nil {
				d.ended(gid, &info)
			}
			return info, err
		}
		if err := wait.Wait(ctx); err != nil {
			return transaction.Info{}, err
		}
	}
}

// statuses are those of DTM's that a state may have there.
var statuses = map[transaction.State][]string{transaction.Prepared: {statusPrepared}, transaction.Running: {statusSubmitted},
	transaction.Committing: {statusSubmitted, statusAborting}, transaction.Aborting: {statusAborting}, transaction.Committed: {statusSucceed, statusFailed},
	transaction.Aborted: {statusFailed}, transaction.GivenUp: {statusFailed}}

// List implements transaction.Driver. DTM lists by no prefix: all transactions of the states are looked at.
func (d *driver) List(ctx context.Context, q transaction.Query) ([]transaction.Info, bool, error) {
	wanted, before := []string{""}, time.Time{}
	if len(q.States) > 0 {
		wanted = nil
		for _, s := range q.States {
			wanted = append(wanted, statuses[s]...)
		}
		slices.Sort(wanted)
		wanted = slices.Compact(wanted)
	}
	if q.OlderThan > 0 {
		before = time.Now().Add(-q.OlderThan)
	}
	var all []transaction.Info
	is := func(s transaction.State) bool { return len(q.States) == 0 || slices.Contains(q.States, s) }
	vague := false // some of them may turn out to be in another state
	for _, text := range wanted {
		if err := d.web.scan(ctx, text, before, func(r *row) {
			key, ours := d.keyOf(r.Gid)
			if !ours || application(key) != q.Application || key <= q.Application+q.After || !before.IsZero() && r.CreateTime != nil && r.CreateTime.After(before) {
				return
			}
			i := head(key, r)
			states := may(&i)
			if !slices.ContainsFunc(states, is) {
				return
			}
			vague = vague || slices.ContainsFunc(states, func(s transaction.State) bool { return !is(s) })
			all = append(all, i)
			if len(all) > 2*q.Limit+pageSize && !vague { // what is far behind is not told
				all = sorted(all)[:q.Limit+1]
			}
		}); err != nil {
			return nil, false, err
		}
	}
	all = sorted(all)
	out := all[:0]
	for _, i := range all {
		if err := d.certain(ctx, &i); err != nil {
			return nil, false, err
		}
		if !is(i.State) {
			continue
		}
		if len(out) == q.Limit {
			return out, true, nil
		}
		out = append(out, i)
	}
	return out, false, nil
}

func sorted(all []transaction.Info) []transaction.Info {
	slices.SortFunc(all, func(a, b transaction.Info) int { return strings.Compare(a.GID, b.GID) })
	return slices.CompactFunc(all, func(a, b transaction.Info) bool { return a.GID == b.GID })
}
