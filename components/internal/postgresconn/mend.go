package postgresconn

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// mendPause is how long after a try that came to nothing there is another one at the earliest.
const mendPause = time.Second

// mending is a try to make anew what somebody has dropped.
type mending struct {
	done chan struct{} // closed when the rest is there
	made bool          // something was missing
	err  error
	over time.Time
}

// gone tells whether the server does not find a table, sequence, function or row's type: then it has done nothing of the statement. So it is, too,
// for who may not use the schema.
func gone(code string) bool {
	return code == undefinedTable || code == undefinedFunction || code == undefinedObject
}

// lastMending is the last one that was begun; nil: there was none.
func (c *Client) lastMending() *mending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mended
}

// mend waits until what a statement did not find is made, unless that was done since it was sent, when the last mending was this one. It
// answers why it could not be made, or that ctx is over.
func (c *Client) mend(ctx context.Context, last *mending) error {
	m := c.mending(last)
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mending is the one to wait for: one that was begun since last, or a new one. Who finds out soon after one that failed is told the same.
func (c *Client) mending(last *mending) *mending {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mended != last {
		return c.mended
	}
	pause := time.Duration(0)
	if last != nil {
		select {
		case <-last.done:
		default:
			return last
		}
		if !last.made {
			pause = mendPause - time.Since(last.over)
		}
		if last.err != nil && pause > 0 {
			return last
		}
	}
	m := &mending{done: make(chan struct{})}
	parts := slices.Clone(c.parts)
	c.mended = m
	c.work.Go(func() {
		defer close(m.done)
		select {
		case <-time.After(pause):
		case <-c.working.Done():
		}
		m.made, m.err = c.makeAnew(c.working, parts)
		m.over = time.Now()
	})
	return m
}

// makeAnew makes what is missing of the parts, in one transaction, unless another program has done so before.
func (c *Client) makeAnew(ctx context.Context, parts []Part) (made bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	conn, err := c.dial(bounded)
	if err != nil {
		return false, c.translate(ctx, err)
	}
	defer hangUp(conn)
	made, err = installer{ctx: bounded, conn: conn, schema: c.options.Schema}.again(parts, c.created)
	if err != nil {
		return false, fmt.Errorf("tables are not there, and cannot be made anew: %w", c.notInstalled(ctx, err))
	}
	if made {
		c.log.Warn("somebody has dropped tables or functions: they are made anew, and what was in them is lost", "schema", c.options.Schema)
	}
	return made, nil
}

// again takes all steps of the parts. What numbers come from was made first at the time since; empty: that is not known.
func (i installer) again(parts []Part, since string) (made bool, err error) {
	if err := i.begin(); err != nil {
		return false, err
	}
	before, err := i.there()
	for _, i.part = range parts {
		var version int
		if err == nil {
			version, err = i.version()
		}
		if err == nil {
			err = i.known(version)
		}
		if err == nil {
			err = i.take(0)
		}
	}
	if err != nil {
		return false, err // with the connection goes what was done
	}
	after, err := i.there()
	if err == nil && before != after {
		err = i.raise(since)
	}
	if err != nil || before == after {
		return false, err
	}
	_, err = i.one("commit")
	return err == nil, err
}

// there is how much is in the schema.
func (i installer) there() (string, error) {
	return i.one(fmt.Sprintf(`select (select count(*) from pg_class c where c.relnamespace = n.oid) + (select count(*) from pg_proc p where p.pronamespace = n.oid)
		from pg_namespace n where n.nspname = '%s'`, i.schema))
}

// raise has numbers go on behind all that were given before what they come from was dropped: those who have locks go by such tokens.
func (i installer) raise(since string) error {
	begun := "created"
	if since != "" {
		begun = fmt.Sprintf("least(created, '%s')", since)
	}
	_, err := i.one(fmt.Sprintf("update servers set created = %[1]s, raised = greatest(raised, (extract(epoch from clock_timestamp() - %[1]s) * 1e9)::bigint)", begun))
	return err
}
