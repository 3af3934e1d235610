package postgresconn

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// lookEvery is how often a connection that only listens is asked for a word: one that is dead does not say so.
const lookEvery = 5 * time.Second

// Listen has a connection of its own, on which it calls told for each notification on a channel, until ctx ends. It calls missed each time
// that there may have been some which nobody heard.
func (c *Client) Listen(ctx context.Context, channel string, told func(payload string), missed func()) {
	pause := backend.Backoff{First: 50 * time.Millisecond, Most: time.Second}
	for ctx.Err() == nil {
		if c.listen(ctx, channel, told, missed) {
			pause.Reset()
		}
		_ = pause.Wait(ctx)
	}
}

func (c *Client) listen(ctx context.Context, channel string, told func(string), missed func()) (worked bool) {
	config := c.config.Copy()
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { told(n.Payload) }
	conn, err := pgconn.ConnectConfig(context.WithValue(ctx, ours{}, true), config)
	if err != nil {
		return false
	}
	defer hangUp(conn)
	for {
		bounded, cancel := context.WithTimeout(ctx, c.options.Timeout)
		_, err := conn.Exec(bounded, "listen "+channel).ReadAll() // again and again: it is a sign of life
		cancel()
		if err != nil {
			return worked
		}
		if !worked {
			worked = true
			missed()
		}
		bounded, cancel = context.WithTimeout(ctx, lookEvery)
		for err == nil {
			err = conn.WaitForNotification(bounded)
		}
		over := bounded.Err() != nil && ctx.Err() == nil && !conn.IsClosed()
		cancel()
		if !over {
			return worked
		}
	}
}

// Scan reads rows into the same places.
func Scan(into ...any) func(pgx.Rows) error {
	return func(r pgx.Rows) error { return r.Scan(into...) }
}

// Patience is how long the server may wait for another's transaction on behalf of who has ctx, in milliseconds; 0: as long as a statement
// may take.
func Patience(ctx context.Context) int64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline).Milliseconds(), 1)
}

// ParseID reads a LockID from a notification.
func ParseID(payload string) (int64, bool) {
	id, err := strconv.ParseInt(payload, 10, 64)
	return id, err == nil
}
