package postgresconn

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// grace is how much longer than a statement may take a connection is waited for, and lookAfter how long it may have been idle before it is
// looked at: the server may have ended it meanwhile, and what is sent then has no answer.
const (
	grace     = time.Second
	lookAfter = 100 * time.Millisecond
)

// worker keeps one connection, and has statements done on it.
func (c *Client) worker(ctx context.Context) {
	pause := backend.Backoff{First: 50 * time.Millisecond, Most: time.Second}
	for ctx.Err() == nil {
		conn, err := c.dial(ctx)
		if err != nil {
			c.unreached(err)
			_ = pause.Wait(ctx)
			continue
		}
		c.joined()
		s := &session{client: c, conn: conn, types: pgtype.NewMap(), known: map[string]*statement{}}
		s.serve(ctx, pause.Reset)
		c.parted()
		hangUp(conn)
	}
}

// hangUp ends a connection without waiting for the server, which may be frozen.
func hangUp(conn *pgconn.PgConn) {
	if !conn.IsClosed() {
		bounded, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		_ = conn.Close(bounded)
		cancel()
	}
	_ = conn.Conn().Close()
	<-conn.CleanupDone()
}

// session is one connection. For one goroutine.
type session struct {
	client  *Client
	conn    *pgconn.PgConn
	types   *pgtype.Map
	known   map[string]*statement
	encoder pgx.ExtendedQueryBuilder
	worked  time.Time
}

// statement is one that is prepared.
type statement struct {
	*pgconn.StatementDescription
	formats []int16 // of its columns
}

// serve works until the connection is of no use any more, or ctx ends.
func (s *session) serve(ctx context.Context, worked func()) {
	s.worked = time.Now()
	for {
		select {
		case <-s.client.idle:
		case <-ctx.Done():
			return
		}
		if time.Since(s.worked) > lookAfter {
			if s.conn.CheckConn() != nil {
				s.client.pass()
				return
			}
		}
		batch := s.client.take()
		if len(batch) == 0 {
			continue
		}
		if s.do(batch) != nil {
			return
		}
		s.worked = time.Now()
		worked()
	}
}

// do has a batch done: each statement with a synchronization point of its own, so that it is a transaction of its own and fails alone.
func (s *session) do(batch []*call) error {
	s.patience()
	ready := batch[:0]
	for i, one := range batch {
		if err := s.prepare(one.SQL); err != nil {
			close(one.sent)
			one.finish(err, notDone)
			if s.conn.IsClosed() {
				refuse(append(ready, batch[i+1:]...), err)
				return err
			}
			continue
		}
		ready = append(ready, one)
	}
	pipeline := s.conn.StartPipeline(context.Background())
	batch, ready = ready, nil
	for _, one := range batch {
		err := s.encode(pipeline, one)
		close(one.sent)
		if err != nil {
			one.finish(err, unreadable)
			continue
		}
		ready = append(ready, one)
	}
	if err := pipeline.Flush(); err != nil {
		lose(ready, err)
		return err
	}
	var worn error
	for i, one := range ready {
		s.patience()
		err, outcome := s.answer(pipeline, one)
		one.finish(err, outcome)
		if s.conn.IsClosed() {
			lose(ready[i+1:], err)
			_ = pipeline.Close()
			return err
		}
		if worn == nil && away(Code(err)) {
			worn = err
		}
	}
	if worn != nil {
		_ = pipeline.Close()
		return worn
	}
	return pipeline.Close()
}

// patience bounds how long the server is waited for from now on.
func (s *session) patience() {
	_ = s.conn.Conn().SetDeadline(time.Now().Add(s.client.options.Timeout + grace))
}

func (s *session) prepare(sql string) error {
	if s.known[sql] != nil {
		return nil
	}
	d, err := s.conn.Prepare(context.Background(), fmt.Sprintf("s%d", len(s.known)), sql, nil)
	if err != nil {
		return err
	}
	known := &statement{StatementDescription: d}
	for _, column := range d.Fields {
		known.formats = append(known.formats, s.types.FormatCodeForOID(column.DataTypeOID))
	}
	s.known[sql] = known
	return nil
}

func (s *session) encode(pipeline *pgconn.Pipeline, one *call) error {
	known := s.known[one.SQL]
	if err := s.encoder.Build(s.types, known.StatementDescription, one.Args); err != nil {
		return err
	}
	// The formats are kept until the answer is read: those of the encoder are the next statement's by then.
	pipeline.SendQueryStatement(known.StatementDescription, s.encoder.ParamValues, s.encoder.ParamFormats, known.formats)
	pipeline.SendPipelineSync()
	return nil
}

// answer reads what one statement came to: its rows, and the end of its transaction. Whatever the server says before the rows are complete
// it has not done; after that an error of its own says so, and one that ends the connection leaves it open.
func (s *session) answer(pipeline *pgconn.Pipeline, one *call) (failed error, what outcome) {
	var unread error
	results, err := pipeline.GetResults()
	switch reader, ok := results.(*pgconn.ResultReader); {
	case err != nil:
		failed = err
	case !ok:
		return fmt.Errorf("the server answered %T", results), unknown
	default:
		failed, unread = s.rows(reader, one)
	}
	if failed != nil && s.conn.IsClosed() {
		if Code(failed) != "" {
			return failed, notDone
		}
		return failed, unknown
	}
	for { // up to its synchronization point
		results, err := pipeline.GetResults()
		switch {
		case err != nil && failed == nil:
			if failed = err; s.conn.IsClosed() {
				return failed, unknown
			}
		case err != nil:
			return failed, notDone
		}
		if _, end := results.(*pgconn.PipelineSync); end || results == nil && err == nil {
			if failed == nil && unread != nil {
				return unread, unreadable
			}
			return failed, notDone
		}
	}
}

// rows hands the rows over. One that cannot be read does not keep the connection from going on.
func (s *session) rows(reader *pgconn.ResultReader, one *call) (failed, unread error) {
	rows := pgx.RowsFromResultReader(s.types, reader)
	if one.First != nil {
		one.First()
	}
	for rows.Next() {
		if one.Row == nil || unread != nil {
			continue
		}
		if unread = one.Row(rows); unread != nil {
			break
		}
	}
	_, failed = reader.Close()
	return failed, unread
}

// lose tells those whose statements were sent that there is no answer, and refuse those whose were not.
func lose(batch []*call, why error) {
	for _, one := range batch {
		one.finish(lost{why}, unknown)
	}
}

func refuse(batch []*call, why error) {
	for _, one := range batch {
		close(one.sent)
		one.finish(lost{why}, notDone)
	}
}

// lost is an error of the connection, without the words of the server, which were about another statement.
type lost struct{ why error }

func (l lost) Error() string { return "the connection was lost: " + l.why.Error() }
