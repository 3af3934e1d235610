// Package postgres gives numbers out of PostgreSQL, from a schema that it may share with the drivers of state and lock.
//
// Calls for a key that come while one is under way at the server are put together: the next asks for the numbers of all of them.
package postgres

import (
	"context"
	_ "embed"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/sequence"
)

func init() {
	components.Register(sequence.Drivers, "postgres", Options{Postgres: postgresconn.Defaults()}, Open)
}

// Options of the driver.
type Options struct {
	Postgres postgresconn.Options `yaml:"postgres"`
}

// Validate implements components.Validator.
func (o Options) Validate() error { return o.Postgres.Validate() }

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- No number is given twice, in either order, by any sidecar with the same server and schema: it is on the server's disk before it is given. A server with ` + "`fsync`" + ` or
  ` + "`synchronous_commit`" + ` off is refused, unless ` + "`allow_loss: true`" + `.
- Nor is one given twice after a fail-over that lost the last ones, or where a backup was restored on another server: the numbers, of new keys too, go on as if of each
  key one had been given in each nanosecond since the tables were made. While two servers both take themselves for the primary, both give the same numbers.
- Tables or functions that somebody drops while sidecars run are made anew by the first call that misses them, with a line in the log, if the user may; otherwise calls fail with
  ` + "`BACKEND_REFUSED`" + ` until another has made them. How far each key was is lost: all go on as after a fail-over.
- Numbers come again where the table is emptied by hand, where a sidecar that starts finds no tables, since they were dropped, and where the same server's files are put back as they were, such as by a snapshot of its disk.
- Each number is greater than all that had been given before the call began, also where it only needs to be unique.
- The first number of a key is 1 where there was no fail-over. What is given to a call whose connection is lost is a gap.`
}

//go:embed schema.sql
var schema string

// Open connects, and makes the tables if need be. The driver must be closed.
func Open(ctx context.Context, env components.Env, o Options) (sequence.Driver, error) {
	client, release, err := postgresconn.Open(ctx, env, o.Postgres)
	if err != nil {
		return nil, err
	}
	if err := client.Install(ctx, postgresconn.Part{Name: "sequence", Steps: []string{schema}}); err != nil {
		release()
		return nil, err
	}
	working, stop := context.WithCancel(context.Background())
	return &sequences{Client: client, prefix: env.ID.Name + "/", release: release, working: working, stop: stop, keys: map[string][]*share{}}, nil
}

type sequences struct {
	*postgresconn.Client
	prefix  string
	release func()
	working context.Context // ends when it is closed
	stop    context.CancelFunc
	work    sync.WaitGroup

	mu   sync.Mutex
	keys map[string][]*share // what gathers for the next draw of a key, while one is under way
}

var (
	_ components.Closer  = (*sequences)(nil)
	_ components.Checker = (*sequences)(nil)
)

// Close ends the driver. Nobody calls Next any more.
func (s *sequences) Close(context.Context) error {
	s.stop()
	s.work.Wait()
	s.release()
	return nil
}

// share is one call's part of a draw.
type share struct {
	size  int64
	done  chan struct{} // closed when first and err are there
	first int64
	err   error
}

// Next takes part in the next draw of the key, or makes one. A draw goes on though who takes part in it has left.
func (s *sequences) Next(ctx context.Context, key string, n int64) (int64, error) {
	mine := &share{size: n, done: make(chan struct{})}
	s.join(s.prefix+key, mine)
	select {
	case <-mine.done:
		return mine.first, mine.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (s *sequences) join(key string, mine *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, busy := s.keys[key]
	if busy {
		s.keys[key] = append(next, mine)
		return
	}
	s.keys[key] = nil
	s.work.Go(func() { s.drawAll(key, []*share{mine}) })
}

// drawAll makes a draw, and those for which calls have gathered meanwhile.
func (s *sequences) drawAll(key string, all []*share) {
	for len(all) > 0 {
		s.draw(key, all)
		s.mu.Lock()
		if all = s.keys[key]; len(all) == 0 {
			delete(s.keys, key)
		} else {
			s.keys[key] = nil
		}
		s.mu.Unlock()
	}
}

// draw asks the server for all shares at once. Numbers whose answer is lost are a gap, so it may be asked again.
func (s *sequences) draw(key string, all []*share) {
	size, last := int64(0), int64(0)
	for _, one := range all {
		size += one.size
	}
	err := s.Do(s.working, postgresconn.Statement{SQL: "select sequence_next($1, $2)", Args: []any{key, size}, Row: postgresconn.Scan(&last)})
	switch {
	case postgresconn.Code(err) == postgresconn.NumberOutOfRange && len(all) > 1: // for some there may be enough
		for i := range all {
			s.draw(key, all[i:i+1])
		}
		return
	case postgresconn.Code(err) == postgresconn.NumberOutOfRange:
		err = sequence.Exhausted()
	}
	first := last - size + 1
	for _, one := range all {
		one.first, one.err = first, err
		first += one.size
		close(one.done)
	}
}
