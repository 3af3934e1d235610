package transaction

import (
	"errors"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
)

// Reasons of errors.
const (
	ReasonNotFound     components.Reason = "TX_NOT_FOUND"
	ReasonExists       components.Reason = "TX_EXISTS"
	ReasonLate         components.Reason = "TX_LATE"          // the transaction is past what was asked of it
	ReasonNotTried     components.Reason = "TX_NOT_TRIED"     // a branch whose try is not known to be OK
	ReasonBranchFailed components.Reason = "TX_BRANCH_FAILED" // a branch says that it cannot be done: the transaction is rolled back
	ReasonInvalid      components.Reason = "TX_INVALID"
	ReasonTooLarge     components.Reason = "TX_TOO_LARGE"
	ReasonTooMany      components.Reason = "TX_TOO_MANY"
	ReasonNobodyServes components.Reason = "TX_NOBODY_SERVES" // the application has no stream of branches open
	ReasonLeaseLost    components.Reason = "TX_LEASE_LOST"    // another sidecar drives the transaction by now
	ReasonNotStored    components.Reason = "TX_NOT_STORED"    // the coordinator has not kept what it was told
)

// NotFound is the error for a gid that has no transaction.
func NotFound() error {
	return components.WithReason(fmt.Errorf("%w: there is no such transaction", components.ErrNotFound), ReasonNotFound)
}

// Exists is the error for a gid that another transaction has.
func Exists() error {
	return components.WithReason(fmt.Errorf("%w: another transaction has that gid", components.ErrExists), ReasonExists)
}

// BranchExists is the error for a branch that was registered otherwise.
func BranchExists(id string) error {
	return components.WithReason(fmt.Errorf("%w: another branch has the id %.64q", components.ErrExists, id), ReasonExists, "branch", id)
}

// Late is the error for what a transaction in that state does not do any more.
func Late(what string, state State) error {
	return components.WithReason(fmt.Errorf("%w: %s: the transaction is %s", components.ErrPrecondition, what, state), ReasonLate, "state", string(state))
}

// NotTried is the error for a commit without the try of a branch.
func NotTried(branch string) error {
	return components.WithReason(fmt.Errorf("%w: commit: it is not known whether the try of branch %.64q was OK: register it again, or abort",
		components.ErrPrecondition, branch), ReasonNotTried, "branch", branch)
}

// NotStored is the error for what the coordinator has not kept, for that reason: it was not done.
func NotStored(why error) error {
	return components.WithReason(fmt.Errorf("%w: %w", components.ErrUnavailable, why), ReasonNotStored)
}

// Failed is the error of a branch that says it cannot be done.
func Failed(why error) error {
	return components.WithReason(fmt.Errorf("%w: the branch failed: %w", components.ErrAborted, why), ReasonBranchFailed)
}

// TooMany is the error for a transaction more than a component takes.
func TooMany(limit int) error {
	return components.WithReason(fmt.Errorf("%w: %d transactions have not ended", components.ErrExhausted, limit), ReasonTooMany, "limit", "max_unfinished")
}

// HasFailed tells whether an error is that of a branch which says that it cannot be done; all others leave open what was done.
func HasFailed(err error) bool {
	var d *components.Detail
	return errors.Is(err, components.ErrAborted) && errors.As(err, &d) && d.Reason == ReasonBranchFailed
}

// Invalid is the error for a transaction that cannot be, in the words of the format.
func Invalid(format string, args ...any) error {
	return components.WithReason(fmt.Errorf("%w: %w", components.ErrInvalid, fmt.Errorf(format, args...)), ReasonInvalid)
}

// TooLarge is the error for what is more than that limit.
func TooLarge(limit, format string, args ...any) error {
	return components.WithReason(fmt.Errorf("%w: %w", components.ErrExhausted, fmt.Errorf(format, args...)), ReasonTooLarge, "limit", limit)
}
