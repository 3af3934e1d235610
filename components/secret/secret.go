// Package secret reads secrets. Their values are in the answers alone: never in logs, dumps, metrics or error texts.
//
// A component is the applications' of its sidecar as a whole. Besides Get, which applications use, its values stand in for
// ${secret:component/key} in the configuration of other components.
package secret

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"

	"golang.org/x/sync/errgroup"
)

// Drivers are the drivers of this build.
var Drivers = components.NewRegistry[Driver]("secret")

// MaxMany is how many secrets one GetMany may ask for.
const MaxMany = 1000

// atOnce is how many of them a driver is asked for at the same time.
const atOnce = 16

// Driver is what a back end implements. It is safe for concurrent use. Its errors and logs never hold a value, nor a part of one.
type Driver interface {
	// Get answers ErrNotFound for a key that is absent. What is there and cannot be read is another error.
	Get(ctx context.Context, key string) (Value, error)
	// List answers the keys that begin with prefix and come after the key after, sorted (by bytes): limit of them, or
	// fewer if there are no more.
	List(ctx context.Context, prefix, after string, limit int) (keys []string, err error)
}

// Secret is the front that callers use. It is safe for concurrent use.
type Secret struct {
	component *components.Component[Driver]
}

// New makes the front of a component.
func New(c *components.Component[Driver]) *Secret { return &Secret{component: c} }

// Get answers a secret, ErrNotFound if it is absent.
func (s *Secret) Get(ctx context.Context, _ components.Caller, key string) (Value, error) {
	return s.get(ctx, key)
}

// Reveal answers a secret as text, for the configuration of another component.
func (s *Secret) Reveal(ctx context.Context, key string) (string, error) {
	value, err := s.get(ctx, key)
	return string(value.Data), err
}

func (s *Secret) get(ctx context.Context, key string) (value Value, err error) {
	if err := components.CheckKey(key); err != nil {
		return Value{}, s.component.Named(err)
	}
	call, err := s.component.Begin(ctx, "get")
	if err != nil {
		return Value{}, err
	}
	defer call.End(&err)
	return call.Driver.Get(ctx, key)
}

// Result is how the call for one key ended: Value counts if Err is nil.
type Result struct {
	Key   string
	Value Value
	Err   error
}

// GetMany answers one result for each of up to MaxMany keys, in their order. It fails itself only as a whole.
func (s *Secret) GetMany(ctx context.Context, _ components.Caller, keys []string) (results []Result, err error) {
	if len(keys) > MaxMany {
		return nil, s.component.Named(fmt.Errorf("%w: %d keys at once are more than %d", components.ErrInvalid, len(keys), MaxMany))
	}
	call, err := s.component.Begin(ctx, "get_many")
	if err != nil {
		return nil, err
	}
	defer call.End(&err)
	results = make([]Result, len(keys))
	var workers errgroup.Group
	workers.SetLimit(atOnce)
	for i, key := range keys {
		workers.Go(func() error {
			results[i] = one(ctx, call.Driver, key)
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return results, nil
}

func one(ctx context.Context, d Driver, key string) Result {
	r := Result{Key: key}
	if r.Err = ctx.Err(); r.Err != nil {
		return r
	}
	if r.Err = components.CheckKey(key); r.Err == nil {
		r.Value, r.Err = d.Get(ctx, key)
	}
	return r
}

// List answers the keys that begin with prefix, in their order: pageSize of them (0: 1000), and the token of the next page,
// empty on the last one.
func (s *Secret) List(ctx context.Context, _ components.Caller, prefix string, pageSize int, pageToken string) (
	keys []string, next string, err error,
) {
	limit, after, err := components.Page(pageSize, pageToken)
	if err != nil {
		return nil, "", s.component.Named(err)
	}
	if err := components.CheckPrefix(prefix); err != nil {
		return nil, "", s.component.Named(err)
	}
	call, err := s.component.Begin(ctx, "list")
	if err != nil {
		return nil, "", err
	}
	defer call.End(&err)
	if keys, err = call.Driver.List(ctx, prefix, after, limit+1); err != nil {
		return nil, "", err
	}
	if len(keys) > limit {
		keys = keys[:limit]
		next = components.PageToken(keys[limit-1])
	}
	return keys, next, nil
}
