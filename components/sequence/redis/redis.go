// Package redis draws numbers from Redis 6 or later, Valkey or a compatible server: one, one with replicas and sentinels, or a cluster.
//
// PREFIX/sequence/COMPONENT/NAMESPACE/APP/KEY has the largest number that was given, in decimal.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/sequence"
)

func init() {
	components.Register(sequence.Drivers, "redis", Options{Redis: redisconn.Defaults()}, Open)
}

// Options of the driver.
type Options struct {
	Redis     redisconn.Options `yaml:"redis"`
	AllowLoss bool              `yaml:"allow_loss" doc:"take a server that may forget what it has answered: then numbers may come twice"`
}

// Validate refuses what cannot work together.
func (o Options) Validate() error { return o.Redis.Validate() }

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- No number is given twice, in either order, by any sidecar with the same component name and prefix: the server counts, has the number on
  its disk before it answers (` + "`appendonly yes`, `appendfsync always`" + `), and evicts nothing. With sentinels, and in a cluster with
  replicas, a replica must have it too (` + "`min-replicas-to-write 1`" + `). A server with other settings is refused, unless
  ` + "`allow_loss: true`" + ` says that numbers may come twice when it crashes or another takes over.
- Where sentinels choose a replica that was behind, which they avoid but do not exclude, numbers can come twice all the same, and so they do where a key is removed by hand or
  an older copy of the data is restored.
- Each number is greater than all that had been given before the call began, also where it only needs to be unique. The first
  number of a key is 1.`
}

// Open makes an instance.
func Open(ctx context.Context, env components.Env, o Options) (sequence.Driver, error) {
	joined, err := redisconn.Join(ctx, env, o.Redis, "sequence")
	if err != nil {
		return nil, err
	}
	if !o.AllowLoss {
		err = joined.Durable(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, joined.Close(ctx))
	}
	return &sequences{joined}, nil
}

type sequences struct{ *redisconn.Joined }

var (
	_ components.Closer  = (*sequences)(nil)
	_ components.Checker = (*sequences)(nil)
)

func (s *sequences) Next(ctx context.Context, key string, n int64) (int64, error) {
	key = s.Prefix + key
	last := redis.NewIntCmd(ctx, "incrby", key, n)
	err := s.Do(ctx, redisconn.Kept, key, last)
	switch {
	case err == nil:
		return last.Val() - n + 1, nil
	case redis.HasErrorPrefix(err, "increment or decrement would overflow"):
		return 0, sequence.Exhausted()
	case redis.HasErrorPrefix(err, "value is not an integer"), strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return 0, fmt.Errorf("%w: %s has no number at %q", components.ErrDamaged, s.Where(), key)
	}
	return 0, err
}
