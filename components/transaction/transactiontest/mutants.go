package transactiontest

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// hooks is a driver with a fault or two. What is nil is sound.
type hooks struct {
	transaction.Driver
	begin  func(context.Context, string, transaction.Content) (transaction.Info, error)
	decide func(context.Context, string, transaction.Decision) (transaction.Info, error)
	tried  func(context.Context, string, string) error
	list   func(*transaction.Query)
	info   func(*transaction.Info)
	drive  func(application *string)
	call   func(transaction.Caller) transaction.Caller
}

func (h *hooks) Begin(ctx context.Context, key string, c transaction.Content) (transaction.Info, error) {
	if h.begin == nil {
		return h.Driver.Begin(ctx, key, c)
	}
	return h.begin(ctx, key, c)
}

func (h *hooks) Decide(ctx context.Context, key string, d transaction.Decision) (transaction.Info, error) {
	if h.decide == nil {
		return h.Driver.Decide(ctx, key, d)
	}
	return h.decide(ctx, key, d)
}

func (h *hooks) Tried(ctx context.Context, key, branch string) error {
	if h.tried == nil {
		return h.Driver.Tried(ctx, key, branch)
	}
	return h.tried(ctx, key, branch)
}

func (h *hooks) List(ctx context.Context, q transaction.Query) ([]transaction.Info, bool, error) {
	if h.list != nil {
		h.list(&q)
	}
	return h.Driver.List(ctx, q)
}

func (h *hooks) Wait(ctx context.Context, key string) (transaction.Info, error) {
	info, err := h.Driver.Wait(ctx, key)
	if h.info != nil {
		h.info(&info)
	}
	return info, err
}

func (h *hooks) Drive(ctx context.Context, application string, call transaction.Caller) error {
	if h.drive != nil {
		h.drive(&application)
	}
	if h.call != nil {
		call = h.call(call)
	}
	return h.Driver.Drive(ctx, application, call)
}

// Close is that of the sound driver.
func (h *hooks) Close(ctx context.Context) error {
	if c, ok := h.Driver.(components.Closer); ok {
		return c.Close(ctx)
	}
	return nil
}

type driver = transaction.Driver

// content breaks what is begun.
func content(change func(*transaction.Content)) func(driver) driver {
	return func(d driver) driver {
		return &hooks{Driver: d, begin: func(ctx context.Context, key string, c transaction.Content) (transaction.Info, error) {
			branches := make([]transaction.Branch, len(c.Branches))
			copy(branches, c.Branches)
			c.Branches = branches
			change(&c)
			return d.Begin(ctx, key, c)
		}}
	}
}

// calls breaks how branches are called.
func calls(change func(ctx context.Context, c *transaction.Call, call transaction.Caller) error) func(driver) driver {
	return func(d driver) driver {
		return &hooks{Driver: d, call: func(sound transaction.Caller) transaction.Caller {
			return func(ctx context.Context, c *transaction.Call) error { return change(ctx, c, sound) }
		}}
	}
}

// decisions breaks what is decided.
func decisions(change func(d driver, ctx context.Context, key string, what transaction.Decision) (transaction.Info, error)) func(driver) driver {
	return func(d driver) driver {
		return &hooks{Driver: d, decide: func(ctx context.Context, key string, what transaction.Decision) (transaction.Info, error) {
			return change(d, ctx, key, what)
		}}
	}
}

// Mutants are broken drivers, each of which the suite must catch.
func Mutants() []componenttest.Mutant[transaction.Driver] {
	return []componenttest.Mutant[transaction.Driver]{
		{Name: "steps have no order", Break: content(func(c *transaction.Content) {
			for i := range c.Branches {
				c.Branches[i].After = nil
			}
		})},
		{Name: "nothing is compensated", Break: content(func(c *transaction.Content) {
			for i := range c.Branches {
				c.Branches[i].Undo = transaction.Target{}
			}
		})},
		{Name: "data are lost", Break: content(func(c *transaction.Content) {
			for i := range c.Branches {
				c.Branches[i].Do.Data = nil
			}
		})},
		{Name: "the trace is lost", Break: content(func(c *transaction.Content) { c.Trace = nil })},
		{Name: "another transaction of that gid is taken for the same", Break: func(d driver) driver {
			return &hooks{Driver: d, begin: func(ctx context.Context, key string, c transaction.Content) (transaction.Info, error) {
				info, err := d.Begin(ctx, key, c)
				if err != nil {
					info, err = d.Get(ctx, key)
				}
				return info, err
			}}
		}},
		{Name: "gids are cut", Break: func(d driver) driver {
			return &hooks{Driver: d, begin: func(ctx context.Context, key string, c transaction.Content) (transaction.Info, error) {
				return d.Begin(ctx, key[:len(key)-1], c)
			}}
		}},
		{Name: "pauses are not kept", Break: content(func(c *transaction.Content) {
			c.Policy.FirstPause, c.Policy.LongPause = time.Millisecond, time.Millisecond
		})},
		{Name: "it waits for ever", Break: content(func(c *transaction.Content) { c.Policy.Timeout = 1000 * time.Hour })},
		{Name: "it does not wait", Break: content(func(c *transaction.Content) { c.Policy.Timeout = time.Millisecond })},
		{Name: "what is unknown is OK", Break: calls(func(ctx context.Context, c *transaction.Call, call transaction.Caller) error {
			if err := call(ctx, c); transaction.HasFailed(err) {
				return err
			}
			return nil
		})},
		{Name: "what is unknown has failed", Break: calls(func(ctx context.Context, c *transaction.Call, call transaction.Caller) error {
			if err := call(ctx, c); err != nil {
				return transaction.Failed(err)
			}
			return nil
		})},
		{Name: "what has failed is unknown", Break: calls(func(ctx context.Context, c *transaction.Call, call transaction.Caller) error {
			if err := call(ctx, c); err != nil {
				return errAway
			}
			return nil
		})},
		{Name: "each call is made twice", Break: calls(func(ctx context.Context, c *transaction.Call, call transaction.Caller) error {
			_ = call(ctx, c)
			return call(ctx, c)
		})},
		{Name: "calls have no operation", Break: calls(func(ctx context.Context, c *transaction.Call, call transaction.Caller) error {
			changed := *c
			changed.Op = transaction.OpAction
			return call(ctx, &changed)
		})},
		{Name: "an abort is a commit", Break: decisions(func(d driver, ctx context.Context, key string, what transaction.Decision) (transaction.Info, error) {
			if what == transaction.Abort {
				what = transaction.Commit
			}
			return d.Decide(ctx, key, what)
		})},
		{Name: "what comes too late is no error", Break: decisions(func(d driver, ctx context.Context, key string, what transaction.Decision) (transaction.Info, error) {
			info, err := d.Decide(ctx, key, what)
			if err != nil {
				info, err = d.Get(ctx, key)
			}
			return info, err
		})},
		{Name: "retry does nothing", Break: decisions(func(d driver, ctx context.Context, key string, what transaction.Decision) (transaction.Info, error) {
			if what == transaction.Retry {
				return d.Get(ctx, key)
			}
			return d.Decide(ctx, key, what)
		})},
		{Name: "a try is forgotten", Break: func(d driver) driver {
			return &hooks{Driver: d, tried: func(context.Context, string, string) error { return nil }}
		}},
		{Name: "states are not looked at", Break: func(d driver) driver {
			return &hooks{Driver: d, list: func(q *transaction.Query) { q.States = nil }}
		}},
		{Name: "pages begin anew", Break: func(d driver) driver {
			return &hooks{Driver: d, list: func(q *transaction.Query) { q.After, q.Limit = "", 3 }}
		}},
		{Name: "the end is always good", Break: func(d driver) driver {
			return &hooks{Driver: d, info: func(i *transaction.Info) { i.State = transaction.Committed }}
		}},
		{Name: "others' transactions are driven", Break: func(d driver) driver {
			return &hooks{Driver: d, drive: func(application *string) { *application = "shop/others/" }}
		}},
	}
}
