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
	q := g.ask(ctx, key)
	for more := true; more; {
		item, left, more, err = g.read(q, c.Do(ctx, redisconn.Read, key, q.next()...))
	}
	return item, left, err
}

// GetLater is Get for who must not wait, and not for a cluster: see DoLater.
func (g *Getter) GetLater(ctx context.Context, c *redisconn.Client, key string, done func(Item, time.Duration, error)) {
	q := g.ask(ctx, key)
	var then func(error)
	then = func(err error) {
		item, left, more, err := g.read(q, err)
		if more {
			c.DoLater(ctx, redisconn.Read, then, q.next()...)
			return
		}
		done(item, left, err)
	}
	c.DoLater(ctx, redisconn.Read, then, q.next()...)
}

// question is what is asked for one item: itself and what is left of it, together or one after the other.
type question struct {
	ctx   context.Context
	key   string
	get   *redis.StringCmd
	ttl   *redis.IntCmd
	both  bool
	asked bool // for the time, by itself
	item  Item
}

func (g *Getter) ask(ctx context.Context, key string) *question {
	q := &question{ctx: ctx, key: key, get: redis.NewStringCmd(ctx, "get", key)}
	if q.both = g.ending.Load() > 0; q.both {
		q.ttl = redis.NewIntCmd(ctx, "pttl", key)
	}
	return q
}

// next is what is sent now.
func (q *question) next() []redis.Cmder {
	switch {
	case q.asked:
		q.ttl = redis.NewIntCmd(q.ctx, "pttl", q.key)
		return []redis.Cmder{q.ttl}
	case q.both:
		return []redis.Cmder{q.get, q.ttl}
	}
	return []redis.Cmder{q.get}
}

// read takes the answers to what was sent; more says that something else is to be sent.
func (g *Getter) read(q *question, failed error) (item Item, left time.Duration, more bool, err error) {
	if errors.Is(failed, redis.Nil) {
		failed = components.ErrNotFound
	}
	if failed != nil {
		return Item{}, 0, false, failed
	}
	if !q.asked {
		b, _ := q.get.Bytes()
		if q.item, err = Decode(b); err != nil {
			return Item{}, 0, false, err
		}
		switch {
		case !q.item.Ends && !q.both:
			return q.item, 0, false, nil
		case !q.item.Ends:
			g.ending.Add(-1)
		default:
			g.ending.Store(patience)
		}
		if !q.both {
			q.asked = true
			return Item{}, 0, true, nil
		}
	}
	left, there := Left(q.ttl.Val())
	if !there {
		return Item{}, 0, false, components.ErrNotFound
	}
	return q.item, left, false, nil
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
