package local

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"sync"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/sequence"
)

func init() { store.Register("sequence", open) }

// next may be repeated: what the first try got is a gap.
var next = store.Unary[ask, answer]{Name: "sequence/next", Safe: true}

type (
	ask struct {
		Key         string // COMPONENT/NAMESPACE/APP/KEY
		Size, Ahead int64
	}
	answer struct{ First int64 }
)

// machine gives numbers out of memory, of which the store says that they may have been given before the first of them is. So an
// end at any moment leaves a gap, and the next owner goes on behind it.
type machine struct {
	space *db.Space

	mu   sync.Mutex
	keys map[string]*row
}

// row is what was put aside for a key: the numbers after given, up to aside.
type row struct {
	given, aside int64
	filling      chan struct{} // closed when the one who puts more aside has done so or failed; nil: nobody does
}

// maxKeys are remembered. Of others the rest of what was put aside is gone.
const maxKeys = 100_000

func open(_ context.Context, space *db.Space, _ *slog.Logger) (store.Machine, error) {
	return &machine{space: space, keys: map[string]*row{}}, nil
}

func (m *machine) Handlers(mux *store.Mux) { next.Handle(mux, m.next) }
func (m *machine) Close()                  {}

func (m *machine) next(ctx context.Context, in ask) (answer, error) {
	for {
		first, filling := m.take(in)
		if first != 0 {
			return answer{first}, nil
		}
		if filling == nil {
			first, err := m.fill(ctx, in)
			if first != 0 || err != nil {
				return answer{first}, err
			}
			continue
		}
		select {
		case <-filling:
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		}
	}
}

// take answers the first of as many numbers as are wanted, or 0. Then somebody is putting more aside, or else the caller is to: with fill.
func (m *machine) take(in ask) (first int64, filling <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.keys[in.Key]
	if r == nil {
		m.forget()
		r = &row{}
		m.keys[in.Key] = r
	}
	if in.Size <= r.aside-r.given {
		return r.give(in.Size), nil
	}
	if r.filling != nil {
		return 0, r.filling
	}
	r.filling = make(chan struct{})
	return 0, nil
}

func (r *row) give(n int64) (first int64) {
	first = r.given + 1
	r.given += n
	return first
}

// forget makes room for a key, if need be. m.mu is held.
func (m *machine) forget() {
	if len(m.keys) < maxKeys {
		return
	}
	for key, r := range m.keys {
		if r.filling == nil {
			delete(m.keys, key)
			return
		}
	}
}

// fill puts more numbers aside and gives the caller its own of them; 0 if others were faster. An update that comes about after ctx has
// ended counts all the same: its numbers are the row's.
func (m *machine) fill(ctx context.Context, in ask) (int64, error) {
	defer m.filled(in.Key)
	var first int64
	err := m.space.Update(ctx, db.Disk, func(tx *db.Tx) error {
		from, err := m.aside(tx, in.Key)
		if err != nil {
			return err
		}
		if in.Size > math.MaxInt64-m.givenOf(in.Key, from) {
			return sequence.Exhausted()
		}
		upTo := from + min(in.Size+in.Ahead, math.MaxInt64-from)
		record := binary.BigEndian.AppendUint64([]byte{format}, uint64(upTo))
		tx.Set([]byte(in.Key), binary.BigEndian.AppendUint64(record, m.space.Raised()))
		tx.Then(func() { first = m.add(in, from, upTo) })
		return nil
	})
	if err != nil {
		return 0, err
	}
	return first, nil
}

// givenOf is the last number that was given, where those up to from are put aside.
func (m *machine) givenOf(key string, from int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.keys[key]; r != nil && r.aside == from {
		return r.given
	}
	return from
}

// add adds the numbers after from, up to upTo, to a row, and takes the first of them that are wanted, if there are enough.
func (m *machine) add(in ask, from, upTo int64) (first int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.keys[in.Key]
	if r == nil {
		return 0
	}
	if r.aside != from {
		r.given = from
	}
	r.aside = upTo
	if in.Size > r.aside-r.given {
		return 0
	}
	return r.give(in.Size)
}

func (m *machine) filled(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.keys[key]
	close(r.filling)
	r.filling = nil
}

// format is the version that records begin with.
const format = 1

// aside is the largest number of a key that may have been given, be it by another store since a backup was made that this one
// comes from.
func (m *machine) aside(tx *db.Tx, key string) (int64, error) {
	record, ok, err := tx.Get([]byte(key))
	if err != nil {
		return 0, err
	}
	var last, raised uint64
	if ok {
		if len(record) != 17 || record[0] != format {
			return 0, store.Unreadable("sequence", key, fmt.Errorf("it is not of format %d", format))
		}
		last, raised = binary.BigEndian.Uint64(record[1:]), binary.BigEndian.Uint64(record[9:])
	}
	since := m.space.Raised() - raised
	if last > math.MaxInt64 || since > math.MaxInt64 {
		return 0, store.Unreadable("sequence", key, fmt.Errorf("%d, raised by %d, cannot have been written", last, raised))
	}
	return int64(min(last+since, math.MaxInt64)), nil
}
