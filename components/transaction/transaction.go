// Package transaction brings the effects that a business transaction has in several services to all or nothing: as a saga, as TCC
// (try, confirm, cancel), or as a message that is delivered once the work of its sender is done.
//
// A transaction belongs to the application that began it, and its gid is unique there. Branches are called again until their
// outcome is known, so that a call may come twice, late, or after the one that takes it back: each carries gid, branch and operation for the
// barrier of whoever is called (package state has one).
package transaction

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Drivers are the drivers of this build.
var Drivers = components.NewRegistry[Driver]("transaction")

// Kind is the pattern of a transaction.
type Kind string

// The kinds. A message is called msg where branches are told of it, as DTM does.
const (
	Saga    Kind = "saga"
	TCC     Kind = "tcc"
	Message Kind = "msg"
)

// The operations that branches are called for.
const (
	OpAction       = "action"
	OpCompensation = "compensation"
	OpTry          = "try"
	OpConfirm      = "confirm"
	OpCancel       = "cancel"
	OpCheck        = "check" // whether the work of a message's sender was done
)

// CheckBranch is the branch that a call for OpCheck names.
const CheckBranch = "check"

// State is where a transaction is.
type State string

// The states. From Committing and Aborting there is one way only.
const (
	Prepared   State = "PREPARED"   // an open TCC, a message not yet submitted
	Running    State = "RUNNING"    // a saga's actions
	Committing State = "COMMITTING" // confirms, deliveries
	Aborting   State = "ABORTING"   // compensations, cancels
	Committed  State = "COMMITTED"
	Aborted    State = "ABORTED"
	GivenUp    State = "GIVEN_UP" // left as it was, by an operator
)

// States are all of them, in the order of a transaction's life.
var States = []State{Prepared, Running, Committing, Aborting, Committed, Aborted, GivenUp}

// Final tells whether a transaction stays so.
func (s State) Final() bool { return s == Committed || s == Aborted || s == GivenUp }

// Target is what a branch calls for one operation: the method of a service, a topic, or the application's own streams of branches.
// The zero value is no call.
type Target struct {
	Service   string `cbor:"1,keyasint,omitempty"` // NAME or NAMESPACE/NAME
	Topic     string `cbor:"2,keyasint,omitempty"` // of messages
	Component string `cbor:"3,keyasint,omitempty"` // of the topic; empty: default
	Stream    bool   `cbor:"4,keyasint,omitempty"` // whoever serves the branches of the application that began the transaction
	Method    string `cbor:"5,keyasint,omitempty"` // of a service, as Invoke has it; of a stream, whatever its handler tells branches apart by
	Verb      string `cbor:"6,keyasint,omitempty"` // of services that speak HTTP

	Data        []byte            `cbor:"7,keyasint,omitempty"`
	ContentType string            `cbor:"8,keyasint,omitempty"`
	Metadata    map[string]string `cbor:"9,keyasint,omitempty"`
}

// IsZero tells whether there is nothing to call.
func (t *Target) IsZero() bool { return t.Service == "" && t.Topic == "" && !t.Stream }

func (t *Target) size() int {
	n := len(t.Service) + len(t.Topic) + len(t.Component) + len(t.Method) + len(t.Verb) + len(t.Data) + len(t.ContentType)
	for k, v := range t.Metadata {
		n += len(k) + len(v)
	}
	return n
}

func (t *Target) same(u *Target) bool {
	return t.Service == u.Service && t.Topic == u.Topic && t.Component == u.Component && t.Stream == u.Stream && t.Method == u.Method &&
		t.Verb == u.Verb && bytes.Equal(t.Data, u.Data) && t.ContentType == u.ContentType && maps.Equal(t.Metadata, u.Metadata)
}

// Branch is one part of a transaction.
type Branch struct {
	ID      string   `cbor:"1,keyasint,omitempty"`
	After   []string `cbor:"2,keyasint,omitempty"` // of a saga: branches whose actions come first
	Do      Target   `cbor:"3,keyasint,omitzero"`  // the action, the try (zero: the application does that itself) or the delivery
	Confirm Target   `cbor:"4,keyasint,omitzero"`  // of TCC
	Undo    Target   `cbor:"5,keyasint,omitzero"`  // the compensation or cancel; zero: there is nothing to take back
}

func (b *Branch) size() int {
	n := b.Do.size() + b.Confirm.size() + b.Undo.size()
	for _, id := range b.After {
		n += len(id) + 16
	}
	return n
}

// Same tells whether two branches are the same in everything.
func (b *Branch) Same(c *Branch) bool {
	return b.ID == c.ID && slices.Equal(b.After, c.After) && b.Do.same(&c.Do) && b.Confirm.same(&c.Confirm) && b.Undo.same(&c.Undo)
}

// Policy says how long, and how often. Zero fields mean the component's.
type Policy struct {
	// Timeout is for a saga's actions, and for an open TCC: then it is rolled back. Of a message it is when the application is asked
	// whether its work was done.
	Timeout     time.Duration `cbor:"1,keyasint,omitempty"`
	CallTimeout time.Duration `cbor:"2,keyasint,omitempty"` // of one call of a branch
	FirstPause  time.Duration `cbor:"3,keyasint,omitempty"` // after the first attempt whose outcome is unknown; it doubles
	LongPause   time.Duration `cbor:"4,keyasint,omitempty"` // up to this
}

// Content is what a transaction is to do. What was handed over must not be changed.
type Content struct {
	Kind     Kind     `cbor:"1,keyasint,omitempty"`
	Branches []Branch `cbor:"2,keyasint,omitempty"` // of TCC none: they are registered
	Check    Target   `cbor:"3,keyasint,omitzero"`  // of a message: answers OK if the sender's work was done, and that it failed if it was not and never will be
	Policy   Policy   `cbor:"4,keyasint,omitzero"`
	// Trace is the trace context of who began it, by the names of its headers. Calls of branches carry it.
	Trace map[string]string `cbor:"5,keyasint,omitempty"`

	// Said is the policy as it was asked for, without what the component's options have added.
	Said Policy `cbor:"6,keyasint,omitzero"`

	New bool `cbor:"-"` // of a call: nobody has that gid, for certain
}

// Same tells whether two contents are the same, whatever traces they are of, and whatever the component's options were; branches of TCC are not
// compared.
func (c *Content) Same(d *Content) bool {
	return c.Kind == d.Kind && (c.Said == d.Said || c.Policy == d.Policy) && c.Check.same(&d.Check) && (c.Kind == TCC ||
		slices.EqualFunc(c.Branches, d.Branches, func(a, b Branch) bool { return a.Same(&b) }))
}

// Info is what has become of a transaction.
type Info struct {
	GID      string // to drivers, with the application before it
	Kind     Kind
	State    State
	Reason   string // why it is being rolled back
	Failed   string // the branch that failed, if one did
	Began    time.Time
	Ended    time.Time // zero: it has not
	Branches []BranchInfo
}

// BranchInfo is what has become of a branch.
type BranchInfo struct {
	ID       string
	Op       string        // that it is called for, or was last
	Done     bool          // and that was OK
	Attempts int           // at that
	Last     string        // what the last attempt came to, if not OK
	Pause    time.Duration // until the next attempt
}

// Call is one call of a branch.
type Call struct {
	GID     string // NAMESPACE/APP/GID, what the barrier of whoever is called goes by
	Kind    Kind
	Branch  string
	Op      string
	Attempt int // counts from 1, as far as is known
	Target  Target
	Trace   map[string]string // see Content
}

// Told is the gid that branches are told of a transaction with that key: unique among all components that are not called default, too.
// DTM's barrier tables have 128 bytes for it.
func Told(component, key string) string {
	if component == "default" {
		return key
	}
	return component + "/" + key
}

// Caller makes one, and answers its outcome: nil, an error that is Failed, or another one, after which nothing is known.
type Caller func(ctx context.Context, c *Call) error

// Decision is what is to become of a transaction.
type Decision string

// The decisions. The last two are an operator's.
const (
	Commit Decision = "commit" // a TCC that is open, or a message: submit it
	Abort  Decision = "abort"
	Retry  Decision = "retry"   // what waits for its next attempt does not, and pauses begin anew
	GiveUp Decision = "give_up" // leave it as it is, for ever
)

// Query is what a list is about.
type Query struct {
	Application string // NAMESPACE/APP/
	After       string // a gid, without the application
	Limit       int
	States      []State       // empty: all
	OlderThan   time.Duration // since it began
}

// Driver is what a back end implements. It is safe for concurrent use. Keys are NAMESPACE/APP/GID; contents have been checked, and their
// policies have no zero fields left.
type Driver interface {
	// Begin stores a transaction, once it is as safe as the driver promises, and has it driven. The same content again changes
	// nothing and answers how it is; another one of that key is Exists().
	Begin(ctx context.Context, key string, c Content) (Info, error)
	// Register adds a branch to a TCC that is open. The same again changes nothing. Until it was Tried a TCC cannot be committed, if it has
	// a try.
	Register(ctx context.Context, key string, b Branch) error
	// Tried says that a branch's try was OK.
	Tried(ctx context.Context, key, branch string) error
	// Decide fails with Late if the transaction is past that. What is decided already is no error.
	Decide(ctx context.Context, key string, d Decision) (Info, error)
	// Get fails with NotFound().
	Get(ctx context.Context, key string) (Info, error)
	// List answers transactions sorted by gid, without branches; more tells whether there may be others behind.
	List(ctx context.Context, q Query) (all []Info, more bool, err error)
	// Wait answers when the state is final.
	Wait(ctx context.Context, key string) (Info, error)
	// Drive has the branches of an application's ("NAMESPACE/APP/") transactions called, until ctx ends; then no call is under way
	// any more. An error other than ctx's is the loss of the back end, and Drive may be called again.
	Drive(ctx context.Context, application string, call Caller) error
	// Defaults are the policy of who says nothing.
	Defaults() Policy
}

// Awaiter is a driver whose back end answers when a transaction has ended, so that nobody asks for that. What it answers need not be final:
// then Wait is called.
type Awaiter interface {
	BeginAndWait(ctx context.Context, key string, c Content) (Info, error)
	DecideAndWait(ctx context.Context, key string, d Decision) (Info, error)
}
