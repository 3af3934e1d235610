package client

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
)

// Cache is a cache component. What it keeps may be lost at any time, but is never wrong. Keys are the application's own.
type Cache struct {
	component string
	api       cachev1.CacheClient
}

// Cache is the cache component of that name; empty means "default". Whether there is one shows at the first call (ErrNoComponent).
func (c *Client) Cache(name string) *Cache { return &Cache{name, cachev1.NewCacheClient(c.API())} }

// Item is a value with what belongs to it.
type Item struct {
	Value       []byte
	ContentType string
	TTL         time.Duration // what is left of it; 0: it does not expire. Kept to the millisecond
	Version     string        // changes with each write and never comes back; a write does not look at it, see IfVersion
	Metadata    map[string]string
}

// Condition says when a write happens: IfVersion or IfAbsent.
type Condition interface {
	WriteOption
	condition() (condition, error)
}

// condition is a Condition for any capability.
type condition struct {
	version string
	absent  bool
}

// IfVersion lets a write happen only if the key is there in this version; else it fails with ErrVersionMismatch.
type IfVersion string

type ifAbsent struct{}

// IfAbsent lets a write happen only if the key is not there; else it fails with ErrExists.
func IfAbsent() Condition { return ifAbsent{} }

func (v IfVersion) condition() (condition, error) {
	text, err := onlyVersion([]IfVersion{v})
	return condition{version: text}, err
}

func (ifAbsent) condition() (condition, error) { return condition{absent: true}, nil }

// only is the one condition there is among some, if there is one.
func only(when []Condition) (condition, error) {
	if len(when) == 0 {
		return condition{}, nil
	}
	if len(when) > 1 || when[0] == nil {
		return condition{}, invalid("more than one condition, or one that is nil")
	}
	return when[0].condition()
}

// onlyVersion refuses the empty version, which the API takes for none: a write meant to be conditional would always happen.
func onlyVersion(versions []IfVersion) (string, error) {
	switch {
	case len(versions) == 0:
		return "", nil
	case len(versions) > 1:
		return "", invalid("more than one condition")
	case versions[0] == "":
		return "", invalid("IfVersion needs a version")
	}
	return string(versions[0]), nil
}

// with puts the condition, if there is one, into a request.
func with(r *cachev1.SetRequest, when []Condition) (*cachev1.SetRequest, error) {
	c, err := only(when)
	switch {
	case err != nil:
		return nil, err
	case c.absent:
		r.Condition = &cachev1.Condition{When: &cachev1.Condition_IfAbsent{IfAbsent: true}}
	case c.version != "":
		r.Condition = &cachev1.Condition{When: &cachev1.Condition_IfVersion{IfVersion: c.version}}
	}
	return r, nil
}

func invalid(message string) error { return madeHere(codes.InvalidArgument, "", message, 0) }

// Get fails with ErrNotFound for a key that is absent or has expired.
func (c *Cache) Get(ctx context.Context, key string) (Item, error) {
	r, err := c.api.Get(ctx, &cachev1.GetRequest{Component: c.component, Key: key})
	if err != nil {
		return Item{}, err
	}
	return cacheItem(r), nil
}

func cacheItem(r *cachev1.GetResponse) Item {
	return Item{r.GetValue(), r.GetContentType(), r.GetTtl().AsDuration(), r.GetVersion(), r.GetMetadata()}
}

// Set stores an item and answers its version. With a condition it is atomic.
func (c *Cache) Set(ctx context.Context, key string, item Item, when ...Condition) (version string, err error) {
	in, err := with(c.setRequest(key, item), when)
	if err != nil {
		return "", err
	}
	r, err := c.api.Set(ctx, in)
	return r.GetVersion(), err
}

func (c *Cache) setRequest(key string, item Item) *cachev1.SetRequest {
	return &cachev1.SetRequest{Component: c.component, Key: key, Value: item.Value, ContentType: item.ContentType,
		Ttl: ttl(item.TTL), Metadata: item.Metadata}
}

func ttl(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// Delete removes a key; that it was absent is no error unless a version is asked for.
func (c *Cache) Delete(ctx context.Context, key string, when ...IfVersion) error {
	version, err := onlyVersion(when)
	if err != nil {
		return err
	}
	_, err = c.api.Delete(ctx, &cachev1.DeleteRequest{Component: c.component, Key: key, IfVersion: version})
	return err
}

// Exists tells whether a key is there.
func (c *Cache) Exists(ctx context.Context, key string) (bool, error) {
	r, err := c.api.Exists(ctx, &cachev1.ExistsRequest{Component: c.component, Key: key})
	return r.GetExists(), err
}

// Touch gives a key a new time to live, counted from now; 0 takes it away. It fails with ErrNotFound if the key is absent.
func (c *Cache) Touch(ctx context.Context, key string, d time.Duration) error {
	_, err := c.api.Touch(ctx, &cachev1.TouchRequest{Component: c.component, Key: key, Ttl: ttl(d)})
	return err
}

// Increment adds delta to a decimal integer, atomically, and answers the sum. An absent key counts as 0 and gets the time to
// live (0: none); one that exists keeps its own. It fails with ErrInvalid, and changes nothing, when the value is not an integer
// or the sum would leave the 64-bit range.
func (c *Cache) Increment(ctx context.Context, key string, delta int64, d time.Duration) (int64, error) {
	r, err := c.api.Increment(ctx, &cachev1.IncrementRequest{Component: c.component, Key: key, Delta: delta, Ttl: ttl(d)})
	return r.GetValue(), err
}
