// Package memory keeps cache items in the sidecar's own memory: the fastest there is, gone with the process, and not shared
// with other sidecars.
//
// Memory is bounded by bytes, with all that an item costs counted. When it is full, S3-FIFO chooses what goes: an item that
// nobody has asked for again leaves through a small queue, after about a tenth of the memory has been written, so that a scan
// over many keys does not drive out those that are in use. A hit takes no lock that others would wait for, which it would
// with LRU. Expired items are never served; their memory is taken back within about a second, or when it is needed.
package memory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// A value as large as a call may bring by default, 4 MiB, has room in an item.
func init() {
	components.Register(cache.Drivers, "memory", Options{MaxBytes: 64 << 20, MaxItemBytes: 5 << 20}, Open)
}

// Options bound what is kept.
type Options struct {
	MaxBytes     components.Size `yaml:"max_bytes" doc:"memory for all items, with their keys, metadata and bookkeeping"`
	MaxItemBytes components.Size `yaml:"max_item_bytes" doc:"the largest item, counted in the same way; a larger one is refused"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	var faults []error
	if o.MaxBytes <= 0 {
		faults = append(faults, errors.New("max_bytes must be more than 0"))
	}
	if o.MaxItemBytes <= 0 {
		faults = append(faults, errors.New("max_item_bytes must be more than 0"))
	}
	if o.MaxItemBytes > o.MaxBytes {
		faults = append(faults, fmt.Errorf("max_item_bytes (%s) must not be more than max_bytes (%s)", o.MaxItemBytes, o.MaxBytes))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- One sidecar's own: two sidecars with the same configuration share nothing, and a restart or a changed option begins empty.
- Every condition and every increment is atomic.
- Times to live are exact to the millisecond, on a clock that does not jump when the machine's time is set. It stands still while the machine is suspended.
- A version never comes back, not after a delete, an expiry or a restart.
- At most ` + "`max_bytes`" + ` are kept. Items may be evicted at any time to stay below it.`
}

// shards is how many parts the keys are spread over, so that few callers wait for one another. A power of two.
const shards = 32

// sweepEvery is how often expired items are looked for.
const sweepEvery = time.Second

type store struct {
	options Options
	boot    string    // begins every version: never the same in two instances
	start   time.Time // what times of expiry are counted from, on the monotonic clock
	seed    maphash.Seed
	shards  [shards]shard
	used    atomic.Int64  // bytes of items, and of writes under way
	hand    atomic.Uint32 // the shard that gives way next
	evicted atomic.Uint64

	stop    context.CancelFunc
	sweeper sync.WaitGroup
}

var (
	_ cache.Exister     = (*store)(nil)
	_ cache.Toucher     = (*store)(nil)
	_ cache.Incrementer = (*store)(nil)
	_ components.Closer = (*store)(nil)

	_ components.Instant = (*store)(nil)
)

// Instant says that calls never wait: a shard is locked for one look or write at a time.
func (*store) Instant() {}

// Open makes an empty store. It must be closed.
func Open(_ context.Context, env components.Env, o Options) (cache.Driver, error) {
	s := &store{options: o, boot: rand.Text()[:13], start: time.Now(), seed: maphash.MakeSeed()}
	if err := s.measure(env.Meter); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	for i := range s.shards {
		s.shards[i].init(o.MaxBytes)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.sweeper.Go(func() { s.sweep(ctx) })
	return s, nil
}

// measure shows how full the store is.
func (s *store) measure(meter prometheus.Registerer) error {
	if meter == nil {
		return nil
	}
	return errors.Join(
		meter.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "outrigger_cache_memory_bytes", Help: "Bytes that the items of a memory cache take.",
		}, func() float64 { return float64(s.used.Load()) })),
		meter.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "outrigger_cache_memory_evictions_total",
			Help: "Items that a memory cache has dropped before their time, for lack of room.",
		}, func() float64 { return float64(s.evicted.Load()) })),
	)
}

// Close drops all items.
func (s *store) Close(context.Context) error {
	s.stop()
	s.sweeper.Wait()
	for i := range s.shards {
		s.used.Add(-s.shards[i].clear())
	}
	return nil
}

// now is the time since start.
func (s *store) now() int64 { return int64(time.Since(s.start)) }

func (s *store) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for i := range s.shards {
				s.used.Add(-s.shards[i].expire(s.now()))
			}
		case <-ctx.Done():
			return
		}
	}
}
