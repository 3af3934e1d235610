// Package cache keeps values for applications that may be lost at any time but are never wrong: each has a time to live,
// a version for compare-and-swap, and integers can be counted up atomically.
//
// Each application has its own keys: what one stores under a key, another does not see under the same key.
//
// # Fronts and drivers
//
// Cache is what front-ends call; behind it stands a Driver for each kind of store. What goes into a driver is lent: value,
// metadata map and slices of keys or entries may be overwritten as soon as the call has returned, so a driver copies what
// it keeps. Strings may be kept. What comes out of a driver belongs to the caller, who may write to it: a driver keeps no
// reference.
package cache

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Drivers are those of this build.
var Drivers = components.NewRegistry[Driver]("cache")

// Bounds of what the front lets pass.
const (
	MinTTL  = time.Millisecond
	MaxTTL  = 100 * 365 * 24 * time.Hour
	MaxMany = 1000 // keys or entries of one call
)

// Item is a value with what belongs to it.
type Item struct {
	Value       []byte
	ContentType string
	Version     string            // given by the driver; ignored when an item is set
	TTL         time.Duration     // 0: does not expire. On Get it is what is left
	Metadata    map[string]string // kept and given back as it is
}

// Condition says when a write happens. The zero value means always; at most one field may be set.
type Condition struct {
	IfVersion string // only if the key is there in this version; otherwise ErrConflict
	IfAbsent  bool   // only if the key is not there; otherwise ErrExists
}

// SetOptions and DeleteOptions are what a driver is told besides the item.
type (
	SetOptions    struct{ Condition }
	DeleteOptions struct{ IfVersion string } // empty: whatever is there
)

// Driver is what a store implements. Everything beyond it is an optional interface, such as ManyGetter. Keys, times to live
// (0, or whole milliseconds of at least one) and conditions have been checked. The package comment says who owns the bytes.
// Safe for concurrent use.
type Driver interface {
	// Get fails with ErrNotFound if the key is absent or has expired.
	Get(ctx context.Context, key string) (Item, error)
	// Set replaces the item with all that belongs to it, its time to live included, and answers a version that no item of
	// any key ever had before and none ever gets again. Condition and write are one step for every other client of the store.
	Set(ctx context.Context, key string, item Item, opts SetOptions) (version string, err error)
	// Delete of an absent key is no error, but with IfVersion it is ErrConflict.
	Delete(ctx context.Context, key string, opts DeleteOptions) error
}

// Exister is a driver that can look without moving the value. Otherwise the front uses Get.
type Exister interface {
	Exists(ctx context.Context, key string) (bool, error)
}

// LaterGetter is a driver that is told by its store when an item is there. GetLater is Get for who must not wait: done is called once,
// by any goroutine, perhaps at once, and waits for nothing. That ctx ends need not be noticed.
type LaterGetter interface {
	GetLater(ctx context.Context, key string, done func(Item, error))
}

// Toucher is a driver that can change the time to live, counted from now, and nothing else; 0 takes it away. The version
// stays. ErrNotFound if the key is absent.
type Toucher interface {
	Touch(ctx context.Context, key string, ttl time.Duration) error
}

// Incrementer is a driver that can add to a decimal integer in one step. An absent key counts as 0 and is created with
// ttl; one that exists keeps its time to live, content type and metadata, and gets a new version. ErrInvalid, and nothing
// changed, if the value is not an integer as strconv.FormatInt writes it, or would leave the range of int64.
type Incrementer interface {
	Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error)
}

// ManyGetter is a driver that can get many items in one round trip: a Result for each key, in order, duplicates included.
// The results need no Key.
type ManyGetter interface {
	GetMany(ctx context.Context, keys []string) ([]Result, error)
}

// ManySetter is a driver that can set many items in one round trip: as if set one after the other, in order, a SetResult for
// each. The results need no Key.
type ManySetter interface {
	SetMany(ctx context.Context, entries []Entry) ([]SetResult, error)
}

// Restricted is a driver that cannot hold every condition in one step with the write. The front refuses those it does not
// offer; a driver without this method offers all.
type Restricted interface {
	Offers(Feature) bool
}

// Feature is a condition that a Restricted driver may not have.
type Feature string

// The features of Restricted.
const (
	SetIfVersion    Feature = "set if version"
	SetIfAbsent     Feature = "set if absent"
	DeleteIfVersion Feature = "delete if version"
)

// Result is how the get of one key among many ended.
type Result struct {
	Key  string
	Item Item
	Err  error
}

// Entry is one of many to be set.
type Entry struct {
	Key  string
	Item Item
	Condition
}

// SetResult is how the set of one entry among many ended.
type SetResult struct {
	Key     string
	Version string
	Err     error
}
