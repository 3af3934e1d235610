package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Cache is a cache component as front-ends call it. All its errors wrap one of the kinds of components, or ctx's error, and
// name the component. Safe for concurrent use.
type Cache struct {
	component *components.Component[Driver]
}

// New puts the front before a component.
func New(c *components.Component[Driver]) *Cache { return &Cache{component: c} }

// Instant tells whether a call about one key would not wait if it were made now.
func (c *Cache) Instant() bool { return c.component.Instant() }

// Named says of an error in a request, found before the call, which component the request was for.
func (c *Cache) Named(err error) error { return c.component.Named(err) }

// Get fails with ErrNotFound if the caller has no such key or it has expired. The item belongs to the caller.
func (c *Cache) Get(ctx context.Context, caller components.Caller, key string) (item Item, err error) {
	call, err := c.component.Begin(ctx, "get")
	if err != nil {
		return Item{}, err
	}
	defer call.End(&err)
	stored, err := caller.StoredKey(key)
	if err != nil {
		return Item{}, err
	}
	return call.Driver.Get(ctx, stored)
}

// Later is Get for who must not wait: begin has done called once with what Get would answer, by any goroutine, perhaps at once;
// done waits for nothing. begin has to be called, once. Without it (nil) Get has to be called after all: the driver has no such
// way, all the component's places are taken, or there is something wrong, which Get will say.
func (c *Cache) Later(ctx context.Context, caller components.Caller, key string) (begin func(done func(Item, error))) {
	stored, err := caller.StoredKey(key)
	if err != nil {
		return nil
	}
	call, ok := c.component.TryBegin(ctx, "get")
	if !ok {
		return nil
	}
	driver, ok := call.Driver.(LaterGetter)
	if !ok {
		call.Withdraw()
		return nil
	}
	return func(done func(Item, error)) {
		driver.GetLater(ctx, stored, func(item Item, err error) {
			call.End(&err)
			done(item, err)
		})
	}
}

// Set stores an item and answers its version. It fails with ErrConflict or ErrExists when the condition does not hold. The
// item is only lent: value and metadata may be overwritten once Set has returned.
func (c *Cache) Set(ctx context.Context, caller components.Caller, key string, item Item, when Condition) (
	version string, err error,
) {
	call, err := c.component.Begin(ctx, "set")
	if err != nil {
		return "", err
	}
	defer call.End(&err)
	entry, err := c.entry(call.Driver, caller, Entry{Key: key, Item: item, Condition: when})
	if err != nil {
		return "", err
	}
	return call.Driver.Set(ctx, entry.Key, entry.Item, SetOptions{when})
}

// Delete removes a key. That it was absent is no error, unless a version is asked for: then it is ErrConflict.
func (c *Cache) Delete(ctx context.Context, caller components.Caller, key, ifVersion string) (err error) {
	call, err := c.component.Begin(ctx, "delete")
	if err != nil {
		return err
	}
	defer call.End(&err)
	stored, err := caller.StoredKey(key)
	if err != nil {
		return err
	}
	if ifVersion != "" && !offers(call.Driver, DeleteIfVersion) {
		return c.notOffered(DeleteIfVersion)
	}
	return call.Driver.Delete(ctx, stored, DeleteOptions{IfVersion: ifVersion})
}

// Exists tells whether the caller has the key.
func (c *Cache) Exists(ctx context.Context, caller components.Caller, key string) (there bool, err error) {
	call, err := c.component.Begin(ctx, "exists")
	if err != nil {
		return false, err
	}
	defer call.End(&err)
	stored, err := caller.StoredKey(key)
	if err != nil {
		return false, err
	}
	if d, ok := call.Driver.(Exister); ok {
		return d.Exists(ctx, stored)
	}
	_, err = call.Driver.Get(ctx, stored)
	if errors.Is(err, components.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Touch gives a key a new time to live, counted from now; 0 takes it away. It fails with ErrNotFound if the key is absent.
func (c *Cache) Touch(ctx context.Context, caller components.Caller, key string, ttl time.Duration) (err error) {
	call, err := c.component.Begin(ctx, "touch")
	if err != nil {
		return err
	}
	defer call.End(&err)
	stored, err := caller.StoredKey(key)
	if err != nil {
		return err
	}
	if ttl, err = checkTTL(ttl); err != nil {
		return err
	}
	d, ok := call.Driver.(Toucher)
	if !ok {
		return c.notOffered("touch")
	}
	return d.Touch(ctx, stored, ttl)
}

// Increment adds delta to a decimal integer in one step and answers the sum. An absent key counts as 0 and is created with
// ttl; one that exists keeps its own. It fails with ErrInvalid, and changes nothing, if the value is not an integer or would
// leave the range of int64.
func (c *Cache) Increment(ctx context.Context, caller components.Caller, key string, delta int64, ttl time.Duration) (
	sum int64, err error,
) {
	call, err := c.component.Begin(ctx, "increment")
	if err != nil {
		return 0, err
	}
	defer call.End(&err)
	stored, err := caller.StoredKey(key)
	if err != nil {
		return 0, err
	}
	if ttl, err = checkTTL(ttl); err != nil {
		return 0, err
	}
	d, ok := call.Driver.(Incrementer)
	if !ok {
		return 0, c.notOffered("increment")
	}
	return d.Increment(ctx, stored, delta, ttl)
}

// entry is e as the driver may see it: checked, with the stored key and whole milliseconds.
func (c *Cache) entry(d Driver, caller components.Caller, e Entry) (Entry, error) {
	var err error
	if e.Key, err = caller.StoredKey(e.Key); err != nil {
		return e, err
	}
	if e.Item.TTL, err = checkTTL(e.Item.TTL); err != nil {
		return e, err
	}
	switch {
	case e.IfAbsent && e.IfVersion != "":
		return e, fmt.Errorf("%w: a key cannot be absent and in a version at once", components.ErrInvalid)
	case e.IfAbsent && !offers(d, SetIfAbsent):
		return e, c.notOffered(SetIfAbsent)
	case e.IfVersion != "" && !offers(d, SetIfVersion):
		return e, c.notOffered(SetIfVersion)
	}
	return e, nil
}

// checkTTL rounds up to whole milliseconds, which is what every store can keep: nothing expires before its time.
func checkTTL(ttl time.Duration) (time.Duration, error) {
	switch {
	case ttl == 0:
		return 0, nil
	case ttl < MinTTL:
		return 0, fmt.Errorf("%w: a time to live of %s is shorter than %s", components.ErrInvalid, ttl, MinTTL)
	case ttl > MaxTTL:
		return 0, fmt.Errorf("%w: a time to live of %s is longer than %s", components.ErrInvalid, ttl, MaxTTL)
	}
	return (ttl + time.Millisecond - 1).Truncate(time.Millisecond), nil
}

func offers(d Driver, f Feature) bool {
	r, ok := d.(Restricted)
	return !ok || r.Offers(f)
}

func (c *Cache) notOffered(f Feature) error {
	driver := c.component.ID().Driver
	return &components.Detail{Err: fmt.Errorf("%w: driver %q does not offer %q", components.ErrUnsupported, driver, f),
		Metadata: map[string]string{"feature": string(f)}}
}
