package dtm

import (
	"context"
	"slices"

	"github.com/dtm-labs/client/dtmgrpc/dtmgpb"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// Commits of a TCC. DTM 1.19 goes through the branches that it has if it is told to submit what is prepared. Told once more it takes the TCC for a new one
// without branches, and marks it as succeeded: confirms without an outcome are then not called again. It cannot be told to submit only what is prepared.
//
// So each TCC is submitted once at most, by the process that began it. All other commits, one that is repeated among them, write a claim, which DTM takes only
// while the TCC is prepared, and then have it abort the TCC. From then on it refuses a submit, and calls for cancels until they are OK: with
// a claim each of them is a confirm. Whether a TCC commits is thus decided once: by the submit, or by the claim; without either by the abort.
const (
	claimBranch = "/claim" // no branch of an application has a slash
	claimOp     = "claim"
	claimReason = "committed, by another sidecar than began it or once more: its cancels are confirms"
)

func (r *record) claimed() bool { return r.has(claimBranch, claimOp) != nil }

// state is where a transaction is.
func (r *record) state() transaction.State {
	s := stateOf(r.Row)
	if !r.claimed() {
		return s
	}
	switch s {
	case transaction.Prepared, transaction.Aborting:
		return transaction.Committing
	case transaction.Aborted:
		return transaction.Committed
	}
	return s
}

// maySubmit tells whether nobody else submits it, and has not yet.
func (d *driver) maySubmit(gid string, r *record, c *custom) bool {
	if r.Row.Type != string(transaction.TCC) {
		return true
	}
	if slices.ContainsFunc(r.Ops, func(o op) bool { return o.Op == cancelOp && o.URL == "" }) { // by an earlier version, which had DTM call for no cancel of such a branch
		return true
	}
	k := d.peek(gid)
	return c.Ours.By == d.me && k != nil && k.own && !k.submitted.Swap(true)
}

// claim commits a TCC that must not be submitted here.
func (d *driver) claim(ctx context.Context, gid string, r *record, info transaction.Info) (transaction.Info, error) {
	if !r.claimed() {
		if err := d.note(ctx, gid, claimBranch, claimOp); err != nil {
			if info, err = d.amiss(ctx, info.GID, gid, err); err != nil || info.State != transaction.Committing {
				return d.settled(info, err, transaction.Commit)
			}
		}
	}
	in := &dtmgpb.DtmRequest{Gid: gid, TransType: r.Row.Type, RollbackReason: claimReason}
	if err := d.ask(ctx, write, func(ctx context.Context) error { _, err := d.dtm.Abort(ctx, in); return err }); err != nil {
		info, err = d.amiss(ctx, info.GID, gid, err) // who began it may have submitted it meanwhile
		return d.settled(info, err, transaction.Commit)
	}
	return d.decided(info, false), nil
}

// unclaimed makes sure that a TCC which DTM has just taken an abort of is not committed by a claim.
func (d *driver) unclaimed(ctx context.Context, gid string, info transaction.Info) (transaction.Info, error) {
	r, err := d.web.find(ctx, gid)
	if err != nil {
		return info, backend.Unknown(ctx, d.web.where(), err)
	}
	if r.claimed() {
		info, err = d.info(ctx, info.GID, r)
		return d.settled(info, err, transaction.Abort)
	}
	return info, nil
}

// isCommitted tells what a cancel that DTM calls for is: a confirm, if the TCC is claimed. There can be no claim any more that is not there then.
func (d *driver) isCommitted(ctx context.Context, gid string, k *known) (bool, error) {
	k.mu.Lock()
	was := k.cancels
	k.mu.Unlock()
	if was != nil {
		return !*was, nil
	}
	r, err := d.web.find(ctx, gid)
	if err != nil {
		return false, err
	}
	cancels := !r.claimed()
	k.mu.Lock()
	k.cancels = &cancels
	k.mu.Unlock()
	return !cancels, nil
}

// may are the states that a transaction may be in whose row says so.
func may(i *transaction.Info) []transaction.State {
	all := []transaction.State{i.State}
	if i.State == transaction.Aborted {
		all = append(all, transaction.GivenUp)
	}
	if claimed, is := map[transaction.State]transaction.State{transaction.Aborting: transaction.Committing, transaction.Aborted: transaction.Committed}[i.State]; is && i.Kind == transaction.TCC {
		all = append(all, claimed)
	}
	return all
}

// certain has what a row says be what is so.
func (d *driver) certain(ctx context.Context, i *transaction.Info) error {
	if len(may(i)) == 1 {
		return nil
	}
	gid, err := d.gidOf(i.GID)
	if err != nil {
		return err
	}
	if i.State == transaction.Aborted {
		stopped, err := d.web.exists(ctx, gid+givenUp)
		if err != nil {
			return err
		}
		if stopped {
			i.State = transaction.GivenUp
			return nil
		}
	}
	if i.Kind == transaction.TCC {
		r, err := d.web.find(ctx, gid)
		if err != nil {
			return err
		}
		*i = r.head(i.GID)
	}
	return nil
}
