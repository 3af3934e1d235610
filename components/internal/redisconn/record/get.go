package record

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
)

// What PTTL answers besides milliseconds.
const (
	Absent    = -2
	Unlimited = -1
)

// Getter gets items, and asks for what is left of their time as long as some of those it has seen have an end. Safe for concurrent use.
type Getter struct{ ending atomic.Int32 }

// patience is how many items without an end it takes to ask for none any longer.
const patience = 100

// Get answers an item and what is left of it, 0 for ever; ErrNotFound if it is absent. The time is asked for after the item.
func (g *Getter) Get(ctx context.Context, c *redisconn.Client, key string) (item Item, left time.Duration, err error) {
	get, ttl := redis.NewStringCmd(ctx, "get", key), (*redis.IntCmd)(nil)
	if g.ending.Load() > 0 {
		ttl = redis.NewIntCmd(ctx, "pttl", key)
		err = c.Do(ctx, redisconn.Read, key, get, ttl)
	} else {
		err = c.Do(ctx, redisconn.Read, key, get)
	}
	if errors.Is(err, redis.Nil) {
		err = components.ErrNotFound
	}
	if err != nil {
		return Item{}, 0, err
	}
	b, _ := get.Bytes()
	if item, err = Decode(b); err != nil {
		return Item{}, 0, err
	}
	switch {
	case !item.Ends && ttl == nil:
		return item, 0, nil
	case !item.Ends:
		g.ending.Add(-1)
	default:
		g.ending.Store(patience)
	}
	if ttl == nil {
		ttl = redis.NewIntCmd(ctx, "pttl", key)
		if err := c.Do(ctx, redisconn.Read, key, ttl); err != nil {
			return Item{}, 0, err
		}
	}
	left, there := Left(ttl.Val())
	if !there {
		return Item{}, 0, components.ErrNotFound
	}
	return item, left, nil
}

// Left is the time that an answer to PTTL means.
func Left(milliseconds int64) (left time.Duration, there bool) {
	switch milliseconds {
	case Absent:
		return 0, false
	case Unlimited:
		return 0, true
	}
	return time.Duration(max(milliseconds, 1)) * time.Millisecond, true
}
