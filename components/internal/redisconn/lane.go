package redisconn

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Kind is what may be said of a command whose answer is missing.
type Kind int

const (
	// Read changes nothing: whether it was done does not matter.
	Read Kind = iota
	// Write may have been done, or not.
	Write
	// Kept is a Write that has not succeeded before a replica has it, where there are some that may become primary.
	Kept
)

// batch is how many calls one pipeline takes along.
const batch = 256

// lane is where calls for one server wait for the next pipeline. There is one for those that are Kept, since the wait for replicas
// holds up what comes after them.
type lane struct {
	client *Client
	server redis.UniversalClient
	kept   bool

	mu      sync.Mutex
	queue   []*call
	runners []*runner // with a pipeline under way each
	watch   *time.Timer
	watched bool // watch will call relieve
}

// runner sends one pipeline after the other.
type runner struct{ began time.Time } // the pipeline

// call is what one caller wants of a server: its commands, in their order.
type call struct {
	cmds []redis.Cmder
	came time.Time
	// state says whose it is: the caller takes back what no pipeline has taken.
	state atomic.Int32
	done  chan error  // what is wrong besides the errors of the commands
	then  func(error) // is called with that instead, if it is there
}

const (
	waiting int32 = iota
	taken
	abandoned
)

var calls = sync.Pool{New: func() any { return &call{done: make(chan error, 1)} }}

// Do sends commands together with those of other callers; its own are done one after the other, with nobody's between them as a rule.
// key is one of their keys, which one server must have, or empty where there is none. What their arguments refer to must not change,
// also when ctx has ended before the answers came: nor may the commands be read then. The error is that of the first one that has
// one: redis.Nil as it is, others as Err says.
func (c *Client) Do(ctx context.Context, kind Kind, key string, cmds ...redis.Cmder) error {
	l, err := c.lane(ctx, kind, key)
	if err != nil {
		return c.Err(ctx, Read, err)
	}
	if err := l.do(ctx, cmds...); err != nil {
		return c.Err(ctx, kind, err)
	}
	for _, cmd := range cmds {
		if own := c.redirected(ctx, kind, cmd); err == nil {
			err = own
		}
	}
	return err
}

// DoLater is Do for who must not wait: then is called once with the error, by any goroutine, and waits for nothing. Not for a cluster,
// where a command may have to go on to another server.
func (c *Client) DoLater(ctx context.Context, kind Kind, then func(error), cmds ...redis.Cmder) {
	l, err := c.lane(ctx, kind, "")
	if err != nil {
		then(c.Err(ctx, Read, err))
		return
	}
	one := calls.Get().(*call)
	one.cmds = append(one.cmds[:0], cmds...)
	one.state.Store(waiting)
	one.then = func(err error) {
		if err != nil {
			then(c.Err(ctx, kind, err))
			return
		}
		for _, cmd := range cmds {
			if own := cmd.Err(); err == nil && own != nil {
				if err = own; err != redis.Nil {
					err = c.Err(ctx, kind, err)
				}
			}
		}
		then(err)
	}
	l.add(one)
}

// Many is Do for commands that do not depend on each other, each with its key: one after the other at each server, and an error for
// each.
func (c *Client) Many(ctx context.Context, kind Kind, keys []string, cmds []redis.Cmder) []error {
	errs := make([]error, len(cmds))
	parts := map[*lane][]int{}
	for i, key := range keys {
		l, err := c.lane(ctx, kind, key)
		if err != nil {
			errs[i] = c.Err(ctx, Read, err)
			continue
		}
		parts[l] = append(parts[l], i)
	}
	var all sync.WaitGroup
	for l, part := range parts {
		all.Go(func() {
			own := make([]redis.Cmder, len(part))
			for j, i := range part {
				own[j] = cmds[i]
			}
			err := l.do(ctx, own...)
			for _, i := range part {
				if err != nil {
					errs[i] = c.Err(ctx, kind, err)
				} else {
					errs[i] = c.redirected(ctx, kind, cmds[i])
				}
			}
		})
	}
	all.Wait()
	return errs
}

// lane is that of the server which has the key.
func (c *Client) lane(ctx context.Context, kind Kind, key string) (*lane, error) {
	at := laneKey{c.redis, kind == Kept && c.replicated.Load()}
	if c.cluster != nil {
		server, err := c.cluster.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		at.server = server
	}
	if l, ok := c.lanes.Load(at); ok {
		return l.(*lane), nil
	}
	fresh := &lane{client: c, server: at.server, kept: at.kept}
	fresh.watch = time.AfterFunc(time.Hour, fresh.relieve)
	fresh.watch.Stop()
	l, _ := c.lanes.LoadOrStore(at, fresh)
	return l.(*lane), nil
}

type laneKey struct {
	server redis.UniversalClient
	kept   bool
}

// redirected answers the error of a command, after it has gone where the cluster says that its key is by now.
func (c *Client) redirected(ctx context.Context, kind Kind, cmd redis.Cmder) error {
	err := cmd.Err()
	if err == nil || err == redis.Nil {
		return err
	}
	if c.cluster != nil && moved(err) {
		c.cluster.ReloadState(ctx)
		if kind != Kept || !c.replicated.Load() { // it would not wait for a replica there
			err = c.cluster.Process(ctx, once{cmd})
		}
	}
	return c.Err(ctx, kind, err)
}

// once is a command that the library does not send again by itself after it may have been done.
type once struct{ redis.Cmder }

func (once) NoRetry() bool { return true }

// do waits until the commands have their answers. An error is of the call as a whole.
func (l *lane) do(ctx context.Context, cmds ...redis.Cmder) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	one := calls.Get().(*call)
	one.cmds = append(one.cmds[:0], cmds...)
	one.state.Store(waiting)
	l.add(one)
	select {
	case err := <-one.done:
		clear(one.cmds)
		calls.Put(one)
		return err
	case <-ctx.Done():
		one.state.CompareAndSwap(waiting, abandoned)
		return context.Cause(ctx)
	}
}

func (l *lane) add(one *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one.came = time.Now()
	l.queue = append(l.queue, one)
	if len(l.runners) == 0 {
		l.start()
	} else {
		l.look()
	}
}

// slow is how long those who come while a pipeline is under way wait for its end, so that they go together, before they get another.
const slow = 2 * time.Millisecond

// look has relieve called when those under way may be slow. It is called with mu locked.
func (l *lane) look() {
	if len(l.runners) < perServer && !l.watched {
		l.watched = true
		l.watch.Reset(slow)
	}
}

// relieve starts another pipeline beside those that are slow.
func (l *lane) relieve() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched = false
	switch {
	case len(l.queue) == 0 || len(l.runners) == 0 || len(l.runners) == perServer:
	case l.fast(nil):
		l.look()
	default:
		l.start()
	}
}

// fast tells whether another than r has a pipeline under way that is not slow. It is called with mu locked.
func (l *lane) fast(r *runner) bool {
	return slices.ContainsFunc(l.runners, func(other *runner) bool { return other != r && time.Since(other.began) < slow })
}

// start is called with mu locked.
func (l *lane) start() {
	r := &runner{began: time.Now()}
	l.runners = append(l.runners, r)
	l.client.work.Go(func() {
		own, late := make([]*call, 0, 32), []*call(nil)
		for {
			runtime.Gosched() // those who are about to call go along
			own, late = l.take(r, own[:0], late[:0])
			l.end(late, errNotSent)
			if len(own) == 0 {
				return
			}
			l.send(own)
		}
	})
}

// end tells callers what became of their calls. Those who are called back are by a goroutine that no pipeline waits for.
func (l *lane) end(all []*call, fault error) {
	var back []*call
	for _, one := range all {
		if one.then != nil {
			back = append(back, one)
		} else {
			one.done <- fault
		}
	}
	if len(back) == 0 {
		return
	}
	l.client.work.Go(func() {
		for _, one := range back {
			then := one.then
			one.then = nil
			clear(one.cmds)
			calls.Put(one)
			then(fault)
		}
	})
}

// take answers the calls of a runner's next pipeline, and none when it is to end: nobody waits, or another one is there who is fast.
// Those that have waited too long are apart.
func (l *lane) take(r *runner, own, late []*call) (next, tooLate []*call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fast(r) {
		l.leave(r)
		l.look()
		return nil, nil
	}
	for len(own) < batch && len(l.queue) > 0 {
		n := min(batch-len(own), len(l.queue))
		for _, one := range l.queue[:n] {
			switch {
			case !one.state.CompareAndSwap(waiting, taken):
			case time.Since(one.came) > l.client.options.Timeout:
				late = append(late, one)
			default:
				own = append(own, one)
			}
		}
		l.queue = append(l.queue[:0], l.queue[n:]...)
	}
	if len(own) == 0 {
		l.leave(r)
	}
	r.began = time.Now()
	return own, late
}

func (l *lane) leave(r *runner) {
	l.runners = slices.DeleteFunc(l.runners, func(other *runner) bool { return other == r })
}

// send has a pipeline done.
func (l *lane) send(own []*call) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*l.client.options.Timeout) // to connect, and to answer
	defer cancel()
	pipe := l.server.Pipeline()
	for _, one := range own {
		for _, cmd := range one.cmds {
			cmd.SetErr(errUnanswered) // a connection that the server turns away leaves commands as they were
			_ = pipe.Process(ctx, cmd)
		}
	}
	var replicas *redis.IntCmd
	if l.kept {
		replicas = redis.NewIntCmd(ctx, "wait", 1, (l.client.options.Timeout / 2).Milliseconds())
		replicas.SetErr(errUnanswered)
		_ = pipe.Process(ctx, replicas)
	}
	_, err := pipe.Exec(ctx) // also of a command that was answered with an error
	if l.client.cluster != nil && lost(err) {
		l.client.cluster.ReloadState(ctx)
	}
	fault := notKept(replicas)
	for _, one := range own {
		for _, cmd := range one.cmds {
			if err != nil && cmd.Err() == errUnanswered && err != redis.Nil {
				cmd.SetErr(err)
			}
		}
	}
	l.end(own, fault)
}

// notKept is what is wrong if no replica has what was written before.
func notKept(replicas *redis.IntCmd) error {
	if replicas == nil || replicas.Err() == errUnanswered {
		return nil // then what was written has no answer either
	}
	n, err := replicas.Result()
	switch {
	case err != nil:
		return fmt.Errorf("wait for a replica: %w", err)
	case n < 1:
		return errNotKept
	}
	return nil
}
