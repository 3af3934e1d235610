package postgresconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Client is a PostgreSQL that many callers use at once. Safe for concurrent use.
type Client struct {
	options Options
	where   string // for errors
	config  *pgconn.Config
	log     *slog.Logger    // of the first component that has it
	working context.Context // ends when it is closed
	stop    context.CancelFunc
	work    sync.WaitGroup
	created string // when the tables were made first

	mu      sync.Mutex
	queue   []*call
	live    int   // connections that serve
	failure error // why there is none: of the last try
	idle    chan struct{}
	changed chan struct{} // closed and replaced when live or failure changes
	parts   []Part        // that were installed
	mended  *mending      // the last one
}

// ours marks the contexts with which this package dials.
type ours struct{}

// Open answers the client that the instances with these options share, after a server has answered it.
func Open(ctx context.Context, env components.Env, o Options) (client *Client, release func(), err error) {
	return components.Share(ctx, env.Shared, o.key(), func(ctx context.Context) (*Client, error) { return open(ctx, env.Logger, o) }, (*Client).close)
}

func open(ctx context.Context, log *slog.Logger, o Options) (*Client, error) {
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	c := &Client{options: o, where: o.where(), config: config, log: log, idle: make(chan struct{}, 1), changed: make(chan struct{})}
	working, stop := context.WithCancel(context.WithValue(context.Background(), ours{}, true))
	c.working, c.stop = working, stop
	for range o.Connections {
		c.work.Go(func() { c.worker(working) })
	}
	err = c.ready(ctx)
	if err == nil {
		err = c.Install(ctx, base)
	}
	if err == nil {
		err = c.Do(ctx, Statement{SQL: "select created::text from servers", Row: Scan(&c.created)})
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// ready waits for the first connection, or for why there is none.
func (c *Client) ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		live, failure, changed := c.live, c.failure, c.changed
		c.mu.Unlock()
		switch {
		case live > 0:
			return nil
		case failure != nil:
			return c.translate(ctx, failure)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return backend.Unreachable(ctx, c.where, ctx.Err())
		}
	}
}

// close ends the connections. Nobody calls Do any more.
func (c *Client) close() {
	c.stop()
	c.work.Wait()
}

// dial makes a connection of its own, past those that are shared. Its errors are not translated.
func (c *Client) dial(ctx context.Context) (*pgconn.PgConn, error) {
	return pgconn.ConnectConfig(context.WithValue(ctx, ours{}, true), c.config)
}

// Check asks the server for a word.
func (c *Client) Check(ctx context.Context) error {
	return c.Do(ctx, Statement{SQL: "select 1"})
}

// Statement is one statement, which is a transaction of its own.
type Statement struct {
	SQL   string
	Args  []any
	Bytes int  // about what the arguments take
	Write bool // if its answer is missing it is not known whether it was done; others are repeated
	// Row is called for each row of the answer, by another goroutine, and maybe more than once for an answer that is lost on the way: what
	// it writes to may be read only after Do has succeeded. First begins anew. Both may be nil.
	First func()
	Row   func(pgx.Rows) error
	// Late is called, by another goroutine, if the answer has come after Do had returned with ctx's error; nil: nobody minds.
	Late func()
}

// Do has a statement done. What it was lent is free when it returns. A statement that the server did not do for a reason that passes is
// repeated within ctx's time, or the statement timeout; so is one, once, that did not find a table or function, when that was made anew.
func (c *Client) Do(ctx context.Context, s Statement) error {
	bounded, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	pause := backend.Backoff{First: 2 * time.Millisecond, Most: 100 * time.Millisecond}
	mended := false
	for lost := 0; ; {
		last := c.lastMending()
		err, done := c.once(ctx, s)
		code := Code(err)
		switch {
		case err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return err
		case errors.Is(err, errNone): // it has the reason
			return c.translate(ctx, errors.Unwrap(err))
		case done == unreadable:
			return fmt.Errorf("%s: %w", c.where, err)
		case again(code):
		case gone(code) && done == notDone && !mended:
			if failure := c.mend(bounded, last); bounded.Err() != nil {
				return backend.Unreachable(ctx, c.where, err)
			} else if failure != nil {
				return failure
			}
			mended = true
			continue
		case done == unknown && s.Write:
			return backend.Unknown(ctx, c.where, err)
		case (code == "" || away(code)) && lost < c.options.Connections:
			lost++ // each of the connections may be as old as this one
		default:
			return c.translate(ctx, err)
		}
		if pause.Wait(bounded) != nil {
			return c.translate(ctx, err)
		}
	}
}
