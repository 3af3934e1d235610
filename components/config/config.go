// Package config serves configuration values that change while applications run.
//
// Values belong to the caller's namespace: all applications of a namespace share them, and none sees those of another.
// While the back end is away the last value that was seen is served, marked Stale. A watcher is told the present state
// first and the last value always; values between may be skipped, and versions of a key never go back.
package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

// Drivers are the drivers of this build.
var Drivers = components.NewRegistry[Driver]("config")

// MaxValue is the largest value, in bytes.
const MaxValue = 4 << 20

// PageBytes is what the values of a page of a list come to at most, and the changes of a message to a watcher with all that
// belongs to them, unless there is only one.
const PageBytes = 1 << 20

// Item is one value. What Value and Metadata hold must not be changed: readers share it.
type Item struct {
	Key         string
	Value       []byte
	ContentType string
	Version     string // opaque; differs between any two values of a key
	Metadata    map[string]string
	Stale       bool // the back end could not be asked: this is the last value that was seen
}

// Change is what a watcher is told of one key.
type Change struct {
	Key     string
	Item    Item // the value that the key has now, unless it is Deleted
	Deleted bool // the key is absent
}

// Message is what a watcher is told at once. The initial messages come first and together hold the present state; More is set
// on all of them but the last.
type Message struct {
	Changes       []Change
	Initial, More bool
}

// Selection is what a watcher wants to hear of: these keys, and all keys that begin with one of these prefixes.
type Selection struct {
	Keys, Prefixes []string
}

// Has tells whether a key is selected.
func (s Selection) Has(key string) bool {
	for _, k := range s.Keys {
		if k == key {
			return true
		}
	}
	for _, p := range s.Prefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// Driver is what a back end implements. Keys are NAMESPACE/KEY, of segments between slashes that are neither empty nor
// "." nor "..". It is safe for concurrent use, and what it answers belongs to the caller.
//
// What cannot be read is an error, never an absent key: ErrUnavailable if asking again may help, else ErrDenied,
// ErrExhausted (too large) or ErrDamaged.
type Driver interface {
	// Get answers ErrNotFound for a key that is absent.
	Get(ctx context.Context, key string) (Item, error)
	// List answers the items whose keys begin with prefix and come after the key after, sorted by key (by bytes): limit of
	// them, or fewer if there are no more or their values come to PageBytes; at least one if there is one.
	List(ctx context.Context, prefix, after string, limit int) ([]Item, error)
	// Watch reports the whole present state of what is selected first (initial: absent keys are left out), then changes in
	// their order, from one goroutine at a time. It may report a whole state again when it may have missed changes. It
	// blocks until ctx ends, report fails, the state cannot be read to begin with, or the back end is lost for good; an
	// outage later it rides out. The last value of a key is always reported; a version that was replaced is not reported after.
	Watch(ctx context.Context, sel Selection, report func(changes []Change, initial bool) error) error
}

// Setter is implemented by drivers that can write.
type Setter interface {
	// Set stores an item and answers its version; if ifVersion is not empty, only if the key is there in that version, else
	// ErrConflict, atomically. A Get that begins after Set has ended sees it.
	Set(ctx context.Context, item Item, ifVersion string) (version string, err error)
}

// Deleter is implemented by drivers that can remove.
type Deleter interface {
	// Delete removes a key; that it is absent is no error.
	Delete(ctx context.Context, key string) error
}

// Config is the front that callers use. It is safe for concurrent use.
type Config struct {
	component *components.Component[Driver]
	known     known
}

// New makes the front of a component.
func New(c *components.Component[Driver]) *Config {
	return &Config{component: c, known: known{limit: knownBytes}}
}

// Get answers the value of a key, ErrNotFound if it is absent. While the back end is unavailable it answers the last value
// that was seen, marked Stale, if there is one.
func (c *Config) Get(ctx context.Context, caller components.Caller, key string) (Item, error) {
	full, err := stored(caller, key)
	if err != nil {
		return Item{}, c.component.Named(err)
	}
	asOf := c.known.now()
	item, err := c.get(ctx, full)
	switch {
	case err == nil:
		c.known.put(full, item, asOf)
	case errors.Is(err, components.ErrNotFound):
		c.known.drop(full, asOf)
	case errors.Is(err, components.ErrUnavailable):
		if last, ok := c.known.get(full); ok {
			item, err = last, nil
		}
	}
	item.Key = key
	return item, err
}

func (c *Config) get(ctx context.Context, full string) (item Item, err error) {
	call, err := c.component.Begin(ctx, "get")
	if err != nil {
		return Item{}, err
	}
	defer call.End(&err)
	return call.Driver.Get(ctx, full)
}

// Set stores a value and answers its version. With ifVersion it does so only if the key is there in that version, else
// ErrConflict. ErrUnsupported where the driver is read-only.
func (c *Config) Set(ctx context.Context, caller components.Caller, item Item, ifVersion string) (version string, err error) {
	full, err := stored(caller, item.Key)
	if err != nil {
		return "", c.component.Named(err)
	}
	if err := checkItem(item); err != nil {
		return "", c.component.Named(err)
	}
	call, err := c.component.Begin(ctx, "set")
	if err != nil {
		return "", err
	}
	defer call.End(&err)
	w, ok := call.Driver.(Setter)
	if !ok {
		return "", c.unsupported("set")
	}
	item.Key, item.Metadata, item.Version, item.Stale = full, maps.Clone(item.Metadata), "", false
	asOf := c.known.now()
	if version, err = w.Set(ctx, item, ifVersion); err != nil {
		return "", err
	}
	item.Version = version
	c.known.put(full, item, asOf) // an outage must not bring back what was there before
	return version, nil
}

// Delete removes a key; that it is absent is no error. ErrUnsupported where the driver is read-only.
func (c *Config) Delete(ctx context.Context, caller components.Caller, key string) (err error) {
	full, err := stored(caller, key)
	if err != nil {
		return c.component.Named(err)
	}
	call, err := c.component.Begin(ctx, "delete")
	if err != nil {
		return err
	}
	defer call.End(&err)
	d, ok := call.Driver.(Deleter)
	if !ok {
		return c.unsupported("delete")
	}
	asOf := c.known.now()
	if err := d.Delete(ctx, full); err != nil {
		return err
	}
	c.known.drop(full, asOf)
	return nil
}

// List answers the items whose keys begin with prefix, in the order of their keys: pageSize of them (0: 1000), or fewer when
// they are large, and the token of the next page, empty on the last one.
func (c *Config) List(ctx context.Context, caller components.Caller, prefix string, pageSize int, pageToken string) (
	items []Item, next string, err error,
) {
	limit, after, err := components.Page(pageSize, pageToken)
	if err != nil {
		return nil, "", c.component.Named(err)
	}
	full, err := storedPrefix(caller, prefix)
	if err != nil {
		return nil, "", c.component.Named(err)
	}
	call, err := c.component.Begin(ctx, "list")
	if err != nil {
		return nil, "", err
	}
	defer call.End(&err)
	if after != "" {
		after = caller.Namespace + "/" + after
	}
	if items, err = call.Driver.List(ctx, full, after, limit+1); err != nil {
		return nil, "", err
	}
	n, more := page(items, limit)
	for i := range items[:n] {
		items[i].Key = items[i].Key[len(caller.Namespace)+1:]
	}
	if more {
		next = components.PageToken(items[n-1].Key)
	}
	return items[:n], next, nil
}

// page says how many of the items fit, and whether there may be more of them behind.
func page(items []Item, limit int) (n int, more bool) {
	bytes := 0
	for i := range items {
		if bytes += len(items[i].Value); i == limit || i > 0 && bytes > PageBytes {
			return i, true
		}
	}
	return len(items), bytes >= PageBytes
}

func (c *Config) unsupported(op string) error {
	return fmt.Errorf("%w: driver %s has no %s", components.ErrUnsupported, c.component.ID().Driver, op)
}
