// Package state keeps values for applications that survive once a write is acknowledged, as far as the component's driver promises
// (docs/guarantees.md): each has a version for compare-and-swap, and several keys can be changed in one step, all or none.
//
// Each application has its own keys: what one stores under a key, another does not see under the same key.
//
// # Fronts and drivers
//
// State is what front-ends call; behind it stands a Driver for each kind of store. Every write is a Transaction, so that a driver
// decides about conditions, fences, barriers and repeats in one place, together with the write. What goes into a driver is lent:
// values, metadata maps and slices may be overwritten as soon as the call has returned, so a driver copies what it keeps. Strings
// may be kept. What comes out of a driver belongs to the caller, who may write to it.
package state

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Drivers are those of this build.
var Drivers = components.NewRegistry[Driver]("state")

// Bounds of what the front lets pass.
const (
	MinTTL        = time.Millisecond
	MaxTTL        = 100 * 365 * 24 * time.Hour
	MaxMany       = 1000     // keys of one call
	MaxOperations = 100      // of one transaction
	PageBytes     = 1 << 20  // of a page of a list, unless it has only one entry
	ManyBytes     = 64 << 20 // of the items that one call gets
)

// Item is a value with what belongs to it.
type Item struct {
	Value       []byte
	ContentType string
	Version     string            // given by the driver; ignored when an item is set
	TTL         time.Duration     // 0: does not expire. On Get it is what is left
	Metadata    map[string]string // kept and given back as it is
}

// Bytes is about what the item takes in an answer.
func (i *Item) Bytes() int {
	n := len(i.Value) + len(i.ContentType) + len(i.Version)
	for k, v := range i.Metadata {
		n += len(k) + len(v)
	}
	return n
}

// Condition says when a write happens. The zero value means always; at most one field may be set.
type Condition struct {
	IfVersion string // only if the key is there in this version; otherwise ErrConflict
	IfAbsent  bool   // only if the key is not there; otherwise ErrExists
}

// Kind is what an Operation does.
type Kind uint8

// The kinds of operations. The zero value is none of them.
const (
	Set    Kind = iota + 1
	Delete      // of an absent key it is no error, unless a version is asked for; IfAbsent makes no sense
	Check       // changes nothing; its condition, which it must have, has to hold
)

// Operation is one step of a Transaction.
type Operation struct {
	Kind Kind
	Key  string
	Item Item // of Set
	Condition
}

// Transaction is what happens as a whole or not at all, in one step for every other client of the store.
type Transaction struct {
	Operations     []Operation // about different keys
	Fence          Fence
	Barrier        Barrier
	IdempotencyKey string // empty: none
	Digest         string // of what is to be done, made by the front when there is an IdempotencyKey
}

// Fence is the token of a lock under whose protection a transaction is made. The zero value is none. To a driver, Component (of
// [a-z0-9-]{1,63}) and Name together are the lock's name.
type Fence struct {
	Component, Name string
	Token           uint64
}

// Barrier says which branch of a distributed transaction the operations are, and which call of it: action or compensation (or
// compensate, which is the same and which no driver sees), try, confirm or cancel. The zero value is none. The three together are the
// name of its record; none of them has a NUL byte.
type Barrier struct{ GID, Branch, Op string }

// forward has what each compensating call takes back.
var forward = map[string]string{"compensation": "action", "cancel": "try"}

// Forward is the barrier of the call that this one takes back, if it is one that does: compensation does with an action, cancel with
// a try.
func (b Barrier) Forward() (f Barrier, compensates bool) {
	b.Op, compensates = forward[b.Op]
	return b, compensates
}

// Outcome is what became of a transaction that did not fail.
type Outcome string

// The outcomes. But for Applied nothing was done, and of the operations nothing was looked at.
const (
	Applied   Outcome = "APPLIED"
	Repeated  Outcome = "REPEATED"  // the barrier's call was there before
	Empty     Outcome = "EMPTY"     // what it takes back never came, and will find Suspended when it does
	Suspended Outcome = "SUSPENDED" // what takes it back came first
)

// Result is what a transaction came to.
type Result struct {
	Outcome  Outcome
	Versions []string // of an Applied one: for each operation the new version if it sets, else empty. Otherwise nil
}

// Driver is what a store implements. Everything beyond it is an optional interface, such as ManyGetter. Keys, times to live (0,
// or whole milliseconds of at least one), conditions and the rest of a transaction have been checked; keys, the barrier's GID,
// the fence's Name and the idempotency key begin with NAMESPACE/APP/. Safe for concurrent use.
type Driver interface {
	// Get fails with ErrNotFound if the key is absent or has expired.
	Get(ctx context.Context, key string) (Item, error)
	// Transact does all operations of t and answers once that is as safe as the driver promises, or does nothing. A set
	// replaces the item with all that belongs to it and gives it a version that no item of any key ever had before and none
	// ever gets again. In this order:
	//
	//   - An idempotency key that was there within the component's time for it: its first answer again, or ErrExists with
	//     ReasonKeyReused if the Digest is another. A transaction that failed leaves none.
	//   - A barrier claims its own record, and if it compensates that of Forward too. Its own was there: Repeated if its own call
	//     made it, else Suspended. It compensates and that of Forward was free: Empty. Records stay for the component's time.
	//   - A fence with a token older than the newest seen of its lock: ErrPrecondition with ReasonStaleFence.
	//   - Each operation's condition, on what is there before the transaction: else an *OperationError.
	Transact(ctx context.Context, t Transaction) (Result, error)
	// List answers the entries whose keys begin with prefix and come after the key after, sorted by the bytes of their keys:
	// limit of them, or fewer if there are no more or they come to PageBytes; at least one if there is one. Without values the
	// items have none. more tells whether there may be others behind.
	List(ctx context.Context, prefix, after string, limit int, values bool) (entries []Entry, more bool, err error)
}

// Peeker is a driver that has some items at hand. Peek answers what Get would answer at that moment, and does not wait; false if it
// cannot, and for whatever Get would fail for.
type Peeker interface {
	Peek(ctx context.Context, key string) (Item, bool)
}

// LaterTransactor is a driver that is told by its store what became of a transaction. TransactLater is Transact for who must not wait: done
// is called once, by any goroutine, perhaps at once, and waits for nothing; the transaction is lent until then. It answers false, and
// never calls done, where it would have to wait. That ctx ends need not be noticed.
type LaterTransactor interface {
	TransactLater(ctx context.Context, t Transaction, done func(Result, error)) bool
}

// ManyGetter is a driver that can get many items in one round trip: a Result for each key, in order, duplicates included. The
// results need no Key. It fails with TooMuch when they come to more than ManyBytes.
type ManyGetter interface {
	GetMany(ctx context.Context, keys []string) ([]GetResult, error)
}

// Restricted is a driver that cannot do everything. The front refuses what it does not offer; a driver without this method
// offers all.
type Restricted interface {
	Offers(Feature) bool
}

// Feature is what a Restricted driver may not have.
type Feature string

// The features of Restricted.
const (
	Many        Feature = "transactions of several operations"
	Fencing     Feature = "fence"
	Barriers    Feature = "barrier"
	Idempotency Feature = "idempotency key"
)

// Entry is one of a list.
type Entry struct {
	Key  string
	Item Item
}

// GetResult is how the get of one key among many ended.
type GetResult struct {
	Key  string
	Item Item
	Err  error
}
