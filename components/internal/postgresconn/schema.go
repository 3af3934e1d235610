package postgresconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrigger-mesh/outrigger/components"
)

// Part is what a capability needs in the schema. Each step brings it from one version to the next, and what it does is never changed once it
// was released. It can be taken again, and then makes what somebody has dropped, and nothing else.
type Part struct {
	Name  string
	Steps []string
}

// installTime is how long Install may take, waits for others included that do the same.
const installTime = 30 * time.Second

// Install brings a part up to the version that this program knows, if need be. It refuses a newer one, which another program relies on.
// What is dropped of it later is made anew.
func (c *Client) Install(ctx context.Context, p Part) error {
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return c.translate(ctx, err)
	}
	defer hangUp(conn)
	i := installer{ctx, conn, c.options.Schema, p}
	version, err := i.version()
	if err == nil && version < len(p.Steps) {
		err = i.upgrade()
	} else if err == nil {
		err = i.known(version)
	}
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.parts = append(slices.DeleteFunc(c.parts, func(known Part) bool { return known.Name == p.Name }), p)
	}
	return c.notInstalled(ctx, err)
}

func (c *Client) notInstalled(ctx context.Context, err error) error {
	if errors.Is(err, components.ErrPrecondition) {
		return fmt.Errorf("%s: %w", c.where, err)
	}
	return c.translate(ctx, err)
}

type installer struct {
	ctx    context.Context
	conn   *pgconn.PgConn
	schema string
	part   Part
}

// one runs a statement, and answers the first column of its first row, empty if there is none.
func (i installer) one(sql string) (string, error) {
	results, err := i.conn.Exec(i.ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	if last := results[len(results)-1]; len(last.Rows) > 0 && len(last.Rows[0]) > 0 {
		return string(last.Rows[0][0]), nil
	}
	return "", nil
}

func (i installer) version() (int, error) {
	// The catalog itself is read: what the server remembers of names may be from before the lock.
	there, err := i.one(fmt.Sprintf("select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = '%s' and c.relname = 'parts'", i.schema))
	if err != nil || there == "" {
		return 0, err
	}
	text, err := i.one(fmt.Sprintf("select version from %s.parts where name = '%s'", i.schema, i.part.Name))
	if err != nil || text == "" {
		return 0, err
	}
	return strconv.Atoi(text)
}

func (i installer) known(version int) error {
	if version > len(i.part.Steps) {
		return fmt.Errorf("%w: schema %s has version %d of %q, and this program knows up to %d", components.ErrPrecondition, i.schema, version, i.part.Name, len(i.part.Steps))
	}
	return nil
}

// upgrade takes the steps in one transaction. Of several programs that come at once one does, and the others find it done.
func (i installer) upgrade() error {
	if err := i.begin(); err != nil {
		return err
	}
	version, err := i.version()
	if err == nil {
		err = i.known(version)
	}
	if err == nil && version < len(i.part.Steps) {
		err = i.take(version)
	}
	if err != nil {
		return err // with the connection goes what was done
	}
	_, err = i.one("commit")
	return err
}

// begin waits until no other program changes the schema.
func (i installer) begin() error {
	_, err := i.one(fmt.Sprintf("begin; set local statement_timeout = 0; select pg_advisory_xact_lock(%d)", LockID(i.schema, "parts")))
	return err
}

func (i installer) take(version int) error {
	there, err := i.one(fmt.Sprintf("select 1 from pg_namespace where nspname = '%s'", i.schema))
	if err == nil && there == "" {
		_, err = i.one("create schema " + i.schema)
	}
	if err == nil {
		_, err = i.one(fmt.Sprintf("create table if not exists %s.parts (name text primary key, version integer not null)", i.schema))
	}
	for ; err == nil && version < len(i.part.Steps); version++ {
		_, err = i.one(i.part.Steps[version])
	}
	if err == nil {
		_, err = i.one(fmt.Sprintf("insert into %s.parts values ('%s', %d) on conflict (name) do update set version = excluded.version", i.schema, i.part.Name, version))
	}
	return err
}

// Every calls do at about the times that are given, until stop ends it. Each of several programs has its own times.
func Every(ctx context.Context, interval time.Duration, do func(context.Context)) {
	for {
		timer := time.NewTimer(jittered(interval))
		select {
		case <-timer.C:
			do(ctx)
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
