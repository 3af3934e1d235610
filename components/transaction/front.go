package transaction

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

// Made makes a call of a branch in the name of the application that began the transaction, and answers what the branch answered. Its error is
// nil, one that HasFailed, or another one, after which nothing is known.
type Made func(ctx context.Context, who components.Caller, c *Call) (Answer, error)

// Answer is what a service has answered.
type Answer struct {
	Data        []byte
	ContentType string
}

// Options are what a front needs besides its component.
type Options struct {
	Logger *slog.Logger // may be nil
	Call   Made         // of targets that are no streams
	// Application is the one whose transactions this process drives.
	Application components.Caller
	// Run runs what drives them, until the context that it is given has ended; nil: nothing is driven here.
	Run func(func(context.Context))
}

// Transactions is the front that callers use. All its errors wrap one of the kinds of components, or ctx's error, and name the
// component. Safe for concurrent use.
type Transactions struct {
	component *components.Component[Driver]
	options   Options
	log       *slog.Logger
	hub       hub
	gone      context.Context // ends when the component is taken away
	leave     context.CancelFunc
}

// New makes the front of a component.
func New(c *components.Component[Driver], o Options) *Transactions {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Transactions{component: c, options: o, log: o.Logger}
	t.gone, t.leave = context.WithCancel(context.Background())
	return t
}

// Start begins to drive.
func (t *Transactions) Start() {
	if t.options.Run != nil {
		t.options.Run(t.drive)
	}
}

// Close ends that.
func (t *Transactions) Close() { t.leave() }

// Pauses before a driver that has ended driving is asked again.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// drive has the driver there is drive, and the next one when it was replaced.
func (t *Transactions) drive(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.gone, cancel)()
	for pause := firstPause; t.component.Ready(ctx) == nil && ctx.Err() == nil; pause = min(2*pause, lastPause) { // Ready does not look at ctx where there is a driver
		begun := time.Now()
		if err := t.driveOne(ctx); err != nil && ctx.Err() == nil {
			t.log.Debug("driving transactions ends, and begins again", "op", "drive", "err", err)
		}
		if time.Since(begun) > lastPause {
			pause = firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (t *Transactions) driveOne(ctx context.Context) (err error) {
	call, ctx, err := t.component.Stream(ctx, "drive")
	if err != nil {
		return err
	}
	defer call.End(&err)
	return call.Driver.Drive(ctx, t.options.Application.String()+"/", t.call(t.options.Application))
}

// call calls branches in the name of an application.
func (t *Transactions) call(who components.Caller) Caller {
	return func(ctx context.Context, c *Call) error {
		_, err := t.one(ctx, who, c)
		return err
	}
}

func (t *Transactions) one(ctx context.Context, who components.Caller, c *Call) (Answer, error) {
	if c.Target.Stream {
		return Answer{}, t.hub.call(ctx, who, c)
	}
	return t.options.Call(ctx, who, c)
}

// Named says of an error in a request, found before the call, which component the request was for.
func (t *Transactions) Named(err error) error { return t.component.Named(err) }

// Begin begins a transaction: a saga, a TCC without branches, a message. An empty gid means a new one. Steps without ids get their numbers.
// With wait it answers when the transaction has ended; when ctx ends before, that goes on.
func (t *Transactions) Begin(ctx context.Context, who components.Caller, gid string, c Content, wait bool) (info Info, err error) {
	if gid == "" {
		gid, c.New = rand.Text(), true
	}
	for i := range c.Branches {
		if c.Branches[i].ID == "" {
			c.Branches[i].ID = strconv.Itoa(i + 1)
		}
	}
	if err := checkTold(t.told(who, gid)); err != nil {
		return Info{}, t.component.Named(err)
	}
	return t.do(ctx, "begin", who, gid, wait, func(ctx context.Context, d Driver, key string) (Info, error) {
		c, err := c.complete(d.Defaults())
		if err != nil {
			return Info{}, err
		}
		if a, ok := d.(Awaiter); ok && wait {
			return a.BeginAndWait(ctx, key, c)
		}
		return d.Begin(ctx, key, c)
	})
}

// do makes a call about one transaction, and waits for its end if that is wanted.
func (t *Transactions) do(ctx context.Context, op string, who components.Caller, gid string, wait bool,
	do func(context.Context, Driver, string) (Info, error),
) (info Info, err error) {
	key, err := keyOf(who, gid)
	if err != nil {
		return Info{}, t.component.Named(err)
	}
	call, err := t.component.Begin(ctx, op)
	if err != nil {
		return Info{}, err
	}
	inner := ctx
	if _, ok := call.Driver.(Awaiter); ok && wait { // what may last takes no place
		call.Withdraw()
		if call, inner, err = t.component.Stream(ctx, op); err != nil {
			return Info{}, err
		}
	}
	failpoint.Hit("coordinator.asked", op)
	if info, err = do(inner, call.Driver, key); err != nil && inner.Err() != nil {
		err = context.Cause(inner)
	}
	failpoint.Hit("coordinator.stored", op)
	call.End(&err)
	if err == nil && wait && !info.State.Final() || isReloaded(err) {
		info, err = t.wait(ctx, key)
	}
	info.GID = gid
	return info, err
}

// wait takes no place of the component: it may last.
func (t *Transactions) wait(ctx context.Context, key string) (info Info, err error) {
	for {
		if info, err = t.waitOne(ctx, key); !isReloaded(err) || ctx.Err() != nil {
			return info, err
		}
		if err := t.component.Ready(ctx); err != nil {
			return info, t.component.Named(err)
		}
	}
}

func (t *Transactions) waitOne(ctx context.Context, key string) (info Info, err error) {
	call, ctx, err := t.component.Stream(ctx, "wait")
	if err != nil {
		return Info{}, err
	}
	defer call.End(&err)
	if info, err = call.Driver.Wait(ctx, key); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return info, err
}

func isReloaded(err error) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == components.ReasonReloaded
}

func keyOf(who components.Caller, gid string) (string, error) {
	if err := checkID("the gid", gid); err != nil {
		return "", err
	}
	return who.StoredKey(gid)
}

// Register adds a branch to a TCC and calls its try, if it has one, whose error is answered.
func (t *Transactions) Register(ctx context.Context, who components.Caller, gid string, b Branch) (a Answer, err error) {
	if err := b.check(TCC); err != nil {
		return a, t.component.Named(err)
	}
	if err := (&Content{Branches: []Branch{b}}).Fits(); err != nil {
		return a, t.component.Named(err)
	}
	var within time.Duration
	if _, err = t.do(ctx, "register", who, gid, false, func(ctx context.Context, d Driver, key string) (Info, error) {
		within = d.Defaults().CallTimeout
		return Info{}, d.Register(ctx, key, b)
	}); err != nil || b.Do.IsZero() {
		return a, err
	}
	trying, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if a, err = t.one(trying, who, &Call{GID: t.told(who, gid), Kind: TCC, Branch: b.ID, Op: OpTry, Attempt: 1, Target: b.Do}); err != nil {
		return a, err
	}
	_, err = t.do(ctx, "tried", who, gid, false, func(ctx context.Context, d Driver, key string) (Info, error) {
		return Info{}, d.Tried(ctx, key, b.ID)
	})
	return a, err
}

// told is the gid that branches are told; see Told.
func (t *Transactions) told(who components.Caller, gid string) string {
	return Told(t.component.ID().Name, who.String()+"/"+gid)
}

// Decide decides what is to become of a transaction.
func (t *Transactions) Decide(ctx context.Context, who components.Caller, gid string, what Decision, wait bool) (Info, error) {
	return t.do(ctx, string(what), who, gid, wait, func(ctx context.Context, d Driver, key string) (Info, error) {
		if a, ok := d.(Awaiter); ok && wait {
			return a.DecideAndWait(ctx, key, what)
		}
		return d.Decide(ctx, key, what)
	})
}

// Get answers how a transaction is.
func (t *Transactions) Get(ctx context.Context, who components.Caller, gid string) (Info, error) {
	return t.do(ctx, "get", who, gid, false, func(ctx context.Context, d Driver, key string) (Info, error) { return d.Get(ctx, key) })
}

// List answers one page of the caller's transactions, sorted by gid, without branches, and what leads to the next.
func (t *Transactions) List(ctx context.Context, who components.Caller, q Query, size int, page string) (all []Info, next string, err error) {
	if q.Limit, q.After, err = components.Page(size, page); err != nil {
		return nil, "", t.component.Named(err)
	}
	q.Application = who.String() + "/"
	call, err := t.component.Begin(ctx, "list")
	if err != nil {
		return nil, "", err
	}
	defer call.End(&err)
	all, more, err := call.Driver.List(ctx, q)
	if err != nil {
		return nil, "", err
	}
	for i := range all {
		all[i].GID = all[i].GID[len(q.Application):]
	}
	if more && len(all) > 0 {
		next = components.PageToken(all[len(all)-1].GID)
	}
	return all, next, nil
}
