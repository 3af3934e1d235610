// Package etcd draws numbers from etcd, for all sidecars that reach it.
//
// A record has the key PREFIX NAMESPACE/APP/KEY. Its value is the largest number that may have been given, in decimal digits.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
	"github.com/outrigger-mesh/outrigger/components/sequence"
)

func init() {
	components.Register(sequence.Drivers, "etcd", Options{Etcd: etcdconn.Defaults(), Prefix: "outrigger/sequence/", Ahead: 1000}, Open)
}

// Options of the driver.
type Options struct {
	Etcd   etcdconn.Options `yaml:"etcd"`
	Prefix string           `yaml:"prefix" doc:"what all keys begin with in etcd; NAMESPACE/APP/KEY follows"`
	Ahead  int64            `yaml:"ahead" doc:"how many numbers beyond those that were asked for are put aside at once for calls that want unique ones, so that the next need no etcd; they are gone with the sidecar"`
}

// Validate refuses what makes no sense.
func (o Options) Validate() error {
	faults := []error{o.Etcd.Validate(), etcdconn.CheckPrefix(o.Prefix)}
	if o.Ahead < 0 || o.Ahead > sequence.MaxSize {
		faults = append(faults, fmt.Errorf("ahead: %d is not from 0 to %d", o.Ahead, sequence.MaxSize))
	}
	return errors.Join(faults...)
}

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- No number is given twice, in either order, by any sidecar on this etcd: numbers are on the disks of most members before the first of them
  is given, and the loss of the others, or of the leader, changes nothing.
- Each number of ` + "`Next`" + ` is greater than all that any sidecar had been given before the call began: each call needs etcd. Calls of a
  sidecar for one key that come at once share a write. Unique numbers come from what the sidecar has put aside.
- The first number of a key is 1. What was put aside, and what a call was given whose answer was lost, is a gap.
- An etcd that is restored from a snapshot gives again what was given since, and so does one where a key is removed by hand.`
}

// maxKeys are remembered. Of others the rest of what was put aside is gone.
const maxKeys = 100_000

// sequences moves the numbers of keys on, by writes that are done only if the record is as it was seen last.
type sequences struct {
	conn    *etcdconn.Conn
	release func()
	options Options
	ctx     context.Context // of writes, which many calls wait for
	stop    context.CancelFunc
	writes  sync.WaitGroup

	mu   sync.Mutex
	keys map[string]*row
}

var (
	_ sequence.Uniquer   = (*sequences)(nil)
	_ components.Closer  = (*sequences)(nil)
	_ components.Checker = (*sequences)(nil)

	errClosed = fmt.Errorf("%w: the component is closed", components.ErrUnavailable)
)

// Open makes an instance.
func Open(ctx context.Context, env components.Env, o Options) (sequence.Driver, error) {
	conn, release, err := etcdconn.Open(ctx, env, o.Etcd)
	if err != nil {
		return nil, err
	}
	if err := conn.CheckWritable(ctx, o.Prefix); err != nil {
		release()
		return nil, err
	}
	s := &sequences{conn: conn, release: release, options: o, keys: map[string]*row{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close lets writes that are under way fail.
func (s *sequences) Close(context.Context) error {
	s.stop()
	s.writes.Wait()
	s.release()
	return nil
}

// Check implements components.Checker.
func (s *sequences) Check(ctx context.Context) error { return s.conn.Check(ctx, s.options.Prefix) }

// Next joins those who wait for the next write of the key: all that it gives is greater than what had been given before it was sent.
func (s *sequences) Next(ctx context.Context, key string, n int64) (int64, error) {
	return s.wait(ctx, &ask{key: key, n: n, done: make(chan struct{})})
}

// Unique takes numbers that were put aside, and else puts more aside.
func (s *sequences) Unique(ctx context.Context, key string, n int64) (int64, error) {
	if first := s.aside(key, n); first != 0 {
		return first, nil
	}
	first, err := s.wait(ctx, &ask{key: key, n: n, ahead: s.options.Ahead, done: make(chan struct{})})
	return first, err
}

// row is what is known of a key.
type row struct {
	given, rev  int64  // the record as it was seen last; rev 0: it is absent
	seen        bool   // so it was seen
	next        []*ask // who waits for the next write
	writing     bool
	aside, left int64 // of the numbers put aside the first, and how many there are
}

// ask is a call that waits.
type ask struct {
	key      string
	n, ahead int64
	first    int64
	err      error
	done     chan struct{} // closed when first or err is set
}

func (s *sequences) wait(ctx context.Context, a *ask) (int64, error) {
	if err := s.join(a); err != nil {
		return 0, err
	}
	select {
	case <-a.done:
		return a.first, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// join has a served by the next write of its key, which begins now or when the one before has ended.
func (s *sequences) join(a *ask) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return errClosed
	}
	r := s.row(a.key)
	r.next = append(r.next, a)
	if !r.writing {
		r.writing = true
		s.writes.Go(func() { s.write(a.key, r) })
	}
	return nil
}

// row is that of a key; another one is forgotten if need be. s.mu is held.
func (s *sequences) row(key string) *row {
	r := s.keys[key]
	if r != nil {
		return r
	}
	for other, old := range s.keys {
		if len(s.keys) < maxKeys {
			break
		}
		if !old.writing {
			delete(s.keys, other)
		}
	}
	r = &row{}
	s.keys[key] = r
	return r
}

// aside answers the first of n numbers that were put aside, or 0.
func (s *sequences) aside(key string, n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.keys[key]
	if r == nil || r.left < n {
		return 0
	}
	first := r.aside
	r.aside, r.left = r.aside+n, r.left-n
	return first
}

// write serves those who wait, until nobody does.
func (s *sequences) write(key string, r *row) {
	for {
		s.mu.Lock()
		batch := r.next
		r.next = nil
		if len(batch) == 0 {
			r.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		err := s.conn.Do(s.ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
			return s.move(ctx, client, key, r, batch)
		})
		if s.ctx.Err() != nil {
			err = errClosed
		}
		for _, a := range batch {
			if err != nil {
				a.first, a.err = 0, err
			}
			close(a.done)
		}
	}
}

// move moves the record of a key on by all that the batch wants. What a write has done whose answer is lost is a gap.
func (s *sequences) move(ctx context.Context, client *clientv3.Client, key string, r *row, batch []*ask) error {
	full := s.options.Prefix + key
	for fresh := false; ; fresh = true {
		if !r.seen {
			fresh = true
			got, err := client.Get(ctx, full)
			if err != nil {
				return err
			}
			if err := s.see(r, key, got); err != nil {
				return err
			}
		}
		given, upTo := share(r.given, batch)
		if given == r.given { // there are not enough for anybody
			if fresh {
				return nil
			}
			r.seen = false
			continue
		}
		r.seen = false // until the answer is there
		done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(full), "=", r.rev)).
			Then(clientv3.OpPut(full, strconv.FormatInt(upTo, 10))).Else(clientv3.OpGet(full)).Commit()
		switch {
		case err != nil:
			return err
		case done.Succeeded:
			r.given, r.rev, r.seen = upTo, done.Header.Revision, true
			s.putAside(r, given, upTo)
			return nil
		}
		if err := s.see(r, key, (*clientv3.GetResponse)(done.Responses[0].GetResponseRange())); err != nil {
			return err
		}
	}
}

// see takes in what the record is.
func (s *sequences) see(r *row, key string, got *clientv3.GetResponse) error {
	r.given, r.rev, r.seen = 0, 0, true
	if len(got.Kvs) == 0 {
		return nil
	}
	given, err := strconv.ParseInt(string(got.Kvs[0].Value), 10, 64)
	if err != nil || given < 0 {
		r.seen = false
		return fmt.Errorf("%w: the record of %q in %s is no number", components.ErrDamaged, key, s.conn.Where())
	}
	r.given, r.rev = given, got.Kvs[0].ModRevision
	return nil
}

// share gives each of the batch its numbers after the ones that were given, and answers the last of them, and the last that is to be put
// aside. For whom there are not enough gets an error.
func share(last int64, batch []*ask) (given, upTo int64) {
	given = last
	ahead := int64(0)
	for _, a := range batch {
		if a.first, a.err = 0, nil; a.n > math.MaxInt64-given {
			a.err = sequence.Exhausted()
			continue
		}
		a.first = given + 1
		given += a.n
		ahead = max(ahead, a.ahead)
	}
	return given, given + min(ahead, math.MaxInt64-given)
}

// putAside keeps the numbers after given, up to upTo, for Unique, in place of what is left of those before.
func (s *sequences) putAside(r *row, given, upTo int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if upTo > given {
		r.aside, r.left = given+1, upTo-given
	}
}
