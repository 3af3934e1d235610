// Package redis keeps cache items in Redis 6 or later, Valkey or a compatible server: one, one with replicas and sentinels, or a cluster.
//
// An item is a string under PREFIX/cache/COMPONENT/NAMESPACE/APP/KEY: a byte for the format; its version, of 16; how long the
// head is, in 4; the head, of content type and metadata; and the value.
package redis

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/record"
)

func init() {
	components.Register(cache.Drivers, "redis", Options{redisconn.Defaults()}, Open)
}

// Options of the driver.
type Options struct {
	Redis redisconn.Options `yaml:"redis"`
}

// Validate refuses what cannot work together.
func (o Options) Validate() error { return o.Redis.Validate() }

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- All sidecars with the same component name and prefix share the items; each application has its own keys.
- Every condition and every increment is one step of the server's. A version never comes back.
- Times to live run by the server's clock, to the millisecond. The item that is read and what is left of its time are asked for one
  after the other: when another caller sets the key in between, the time can be that of the newer item.
- What a server loses is lost: all that was not on its disk when it crashes (with ` + "`appendonly no`" + `, everything), what no replica
  had at a fail-over, and what ` + "`maxmemory-policy`" + ` lets it evict. A cache may be emptied at any time; it is never wrong.
- Two primaries for a moment at a fail-over can both take writes, of which one's are lost, conditions and increments among them.
- A write whose answer is missing has the reason ` + "`BACKEND_OUTCOME_UNKNOWN`" + `; none is sent twice.`
}

// Open makes an instance.
func Open(ctx context.Context, env components.Env, o Options) (cache.Driver, error) {
	joined, err := redisconn.Join(ctx, env, o.Redis, "cache")
	if err != nil {
		return nil, err
	}
	s := &store{Joined: joined}
	if joined.Mode() == redisconn.Cluster {
		return s, nil
	}
	return &one{s}, nil
}

// one is a store that is no cluster: a key is always where it was, so who asks for it need not wait to hear where else to ask.
type one struct{ *store }

var _ cache.LaterGetter = (*one)(nil)

func (s *one) GetLater(ctx context.Context, key string, done func(cache.Item, error)) {
	s.getter.GetLater(ctx, s.Client, s.Prefix+key, func(r record.Item, left time.Duration, err error) { done(item(r, left), err) })
}

type store struct {
	*redisconn.Joined
	getter record.Getter
}

var (
	_ cache.Exister      = (*store)(nil)
	_ cache.Toucher      = (*store)(nil)
	_ cache.Incrementer  = (*store)(nil)
	_ cache.ManyGetter   = (*store)(nil)
	_ cache.ManySetter   = (*store)(nil)
	_ components.Closer  = (*store)(nil)
	_ components.Checker = (*store)(nil)
)

func (s *store) Get(ctx context.Context, key string) (cache.Item, error) {
	r, left, err := s.getter.Get(ctx, s.Client, s.Prefix+key)
	return item(r, left), err
}

func item(r record.Item, left time.Duration) cache.Item {
	return cache.Item{Value: r.Value, ContentType: r.ContentType, Version: r.Version, TTL: left, Metadata: r.Metadata}
}

// set is SET with all it takes to hold a condition, be it a script.
func (s *store) set(ctx context.Context, key string, item cache.Item, when cache.Condition) (cmd redis.Cmder, version string) {
	id, value := record.Encode(record.Item{Ends: item.TTL > 0, ContentType: item.ContentType, Metadata: item.Metadata, Value: item.Value})
	version = id.String()
	if when.IfVersion != "" {
		return redis.NewCmd(ctx, "eval", setIfVersion, 1, key, record.Parse(when.IfVersion), value, item.TTL.Milliseconds()), version
	}
	args := append(make([]any, 0, 6), "set", key, value)
	if item.TTL > 0 {
		args = append(args, "px", item.TTL.Milliseconds())
	}
	if when.IfAbsent {
		args = append(args, "nx")
	}
	return redis.NewCmd(ctx, args...), version
}

// outcome of a set says which condition did not hold.
func outcome(when cache.Condition, err error) error {
	switch {
	case !errors.Is(err, redis.Nil):
		return err
	case when.IfAbsent:
		return components.ErrExists
	default:
		return components.ErrConflict
	}
}

func (s *store) Set(ctx context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
	key = s.Prefix + key
	cmd, version := s.set(ctx, key, item, opts.Condition)
	return version, outcome(opts.Condition, s.Do(ctx, redisconn.Write, key, cmd))
}

func (s *store) Delete(ctx context.Context, key string, opts cache.DeleteOptions) error {
	key = s.Prefix + key
	if opts.IfVersion == "" {
		return s.Do(ctx, redisconn.Write, key, redis.NewIntCmd(ctx, "unlink", key))
	}
	_, err := s.Eval(ctx, redisconn.Write, deleteIfVersion, []string{key}, record.Parse(opts.IfVersion))
	return outcome(cache.Condition{}, err)
}

func (s *store) Exists(ctx context.Context, key string) (bool, error) {
	key = s.Prefix + key
	n := redis.NewIntCmd(ctx, "exists", key)
	err := s.Do(ctx, redisconn.Read, key, n)
	return err == nil && n.Val() == 1, err
}

func (s *store) Touch(ctx context.Context, key string, ttl time.Duration) error {
	begins := byte(record.Stays)
	if ttl > 0 {
		begins = record.Ends
	}
	_, err := s.Eval(ctx, redisconn.Write, touch, []string{s.Prefix + key}, ttl.Milliseconds(), []byte{begins})
	if errors.Is(err, redis.Nil) {
		return components.ErrNotFound
	}
	return err
}

func (s *store) GetMany(ctx context.Context, keys []string) ([]cache.Result, error) {
	cmds, places := make([]redis.Cmder, 0, 2*len(keys)), make([]string, 0, 2*len(keys))
	for _, key := range keys {
		key = s.Prefix + key
		cmds = append(cmds, redis.NewStringCmd(ctx, "get", key), redis.NewIntCmd(ctx, "pttl", key))
		places = append(places, key, key)
	}
	errs := s.Many(ctx, redisconn.Read, places, cmds)
	if over := ctx.Err(); over != nil {
		return nil, over
	}
	results := make([]cache.Result, len(keys))
	for i := range keys {
		results[i].Item, results[i].Err = found(cmds[2*i].(*redis.StringCmd), cmds[2*i+1].(*redis.IntCmd), errs[2*i], errs[2*i+1])
	}
	return results, nil
}

// found is an item of GET and PTTL.
func found(get *redis.StringCmd, ttl *redis.IntCmd, errs ...error) (cache.Item, error) {
	err := cmp.Or(errs...)
	if err != nil {
		if errors.Is(err, redis.Nil) {
			err = components.ErrNotFound
		}
		return cache.Item{}, err
	}
	left, there := record.Left(ttl.Val())
	if !there {
		return cache.Item{}, components.ErrNotFound
	}
	value, _ := get.Bytes()
	r, err := record.Decode(value)
	return item(r, left), err
}

func (s *store) SetMany(ctx context.Context, entries []cache.Entry) ([]cache.SetResult, error) {
	cmds, places, results := make([]redis.Cmder, len(entries)), make([]string, len(entries)), make([]cache.SetResult, len(entries))
	for i, e := range entries {
		places[i] = s.Prefix + e.Key
		cmds[i], results[i].Version = s.set(ctx, places[i], e.Item, e.Condition)
	}
	for i, err := range s.Many(ctx, redisconn.Write, places, cmds) {
		if results[i].Err = outcome(entries[i].Condition, err); results[i].Err != nil {
			results[i].Version = ""
		}
	}
	return results, ctx.Err()
}
