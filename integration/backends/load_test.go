package backends_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// patience is how long a test waits for what must come, on a machine that is busy with others.
var patience = time.Minute + frozen

// frozen is how long a server is frozen, or away. OUTRIGGER_FAULT makes it longer.
var frozen = func() time.Duration {
	d, err := time.ParseDuration(os.Getenv("OUTRIGGER_FAULT"))
	if err != nil {
		d = 5 * time.Second
	}
	return d
}()

// load are workers that call all the time, and what their calls come to. Each call may fail with UNAVAILABLE, and with nothing else;
// once a worker has been served, none before there was a fault.
type load struct {
	t       *testing.T
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	workers int

	mu     sync.Mutex
	served map[int]bool // workers, once at least
	acked  int
	fault  time.Time // when it was; zero: there is none
	made   time.Time // when all of it had happened
	after  map[int]bool
	whole  time.Duration   // after the fault each worker had been served again
	took   []time.Duration // calls that ended between those two
	failed int             // since the fault
}

func newLoad(t *testing.T) *load {
	l := &load{t: t, served: map[int]bool{}}
	l.ctx, l.stop = context.WithCancel(t.Context())
	t.Cleanup(l.end)
	return l
}

// end waits for the last calls.
func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// callTime is what a call may take, such as for a lock whose holder is held up.
var callTime = 30*time.Second + frozen

// pace is how often a worker calls at most: a load that many tests can have beside each other.
const pace = 10 * time.Millisecond

// worker makes a call again and again, until the end.
func (l *load) worker(call func(ctx context.Context) error) {
	number := l.workers
	l.workers++
	l.running.Go(func() {
		for l.ctx.Err() == nil {
			began := time.Now()
			ctx, cancel := context.WithTimeout(l.ctx, callTime)
			err := call(ctx)
			cancel()
			if l.ctx.Err() != nil {
				return
			}
			l.count(number, began, err)
			time.Sleep(time.Until(began.Add(pace)))
		}
	})
}

// answered waits until so many more calls have been acknowledged.
func (l *load) answered(n int) {
	l.t.Helper()
	count := func() int { l.mu.Lock(); defer l.mu.Unlock(); return l.acked }
	from := count()
	harness.Eventually(l.t, patience, func() error {
		if got := count() - from; got < n {
			return fmt.Errorf("%d of %d calls were acknowledged", got, n)
		}
		return nil
	})
}

// serves waits until each worker has been served.
func (l *load) serves() {
	l.t.Helper()
	harness.Eventually(l.t, patience, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.served) < l.workers {
			return fmt.Errorf("%d of %d workers have been served", len(l.served), l.workers)
		}
		return nil
	})
}

func (l *load) count(worker int, began time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.acked++
		l.served[worker] = true
	}
	if err != nil {
		if l.fault.IsZero() && l.served[worker] || !errors.Is(err, client.ErrUnavailable) {
			l.t.Errorf("a call fails with %v; there was a fault: %v", err, !l.fault.IsZero())
		}
		l.failed++
	}
	if l.whole == 0 {
		l.took = append(l.took, time.Since(began))
	}
	if err == nil && !l.made.IsZero() && began.After(l.made) && l.whole == 0 {
		if l.after[worker] = true; len(l.after) == l.workers {
			l.whole = time.Since(l.fault)
		}
	}
}

// during makes a fault under the load, waits until all workers are served again, and says what was seen meanwhile.
func (l *load) during(fault func()) (said func() string) {
	l.serves()
	l.mu.Lock()
	l.fault, l.made, l.after, l.whole, l.took, l.failed = time.Now(), time.Time{}, map[int]bool{}, 0, nil, 0
	l.mu.Unlock()
	fault()
	l.mu.Lock()
	l.made = time.Now()
	l.mu.Unlock()
	harness.Eventually(l.t, patience, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.whole == 0 {
			return fmt.Errorf("%d of %d workers are served", len(l.after), l.workers)
		}
		return nil
	})
	return func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		slices.Sort(l.took)
		failed := "none failed"
		if l.failed > 0 {
			failed = fmt.Sprintf("%d failed, all UNAVAILABLE", l.failed)
		}
		return fmt.Sprintf("during: %d calls, p99 %d ms, most %d ms, %s | recovered %.1f s", len(l.took), l.took[len(l.took)*99/100].Milliseconds(),
			l.took[len(l.took)-1].Milliseconds(), failed, l.whole.Seconds())
	}
}

// shown is all that a sidecar shows to anybody: what it prints, what its admin answers, and the debug bundle.
func shown(t *testing.T, s *harness.Sidecar) string {
	t.Helper()
	all := []string{s.Output()}
	for _, page := range []string{"/info", "/metrics", "/readyz", "/readyz/outbound"} {
		all = append(all, s.Page(page))
	}
	bundle := exec.Command(harness.Binary(t), "debug", "bundle", "-socket", s.Socket, "-out", "-")
	packed, err := bundle.Output()
	check(t, err)
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	check(t, err)
	names := ""
	for files := tar.NewReader(zip); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		text, err := io.ReadAll(files)
		check(t, err)
		names += path.Base(header.Name) + " "
		all = append(all, string(text))
	}
	if names != "version.json status.json config.yaml metrics.txt goroutines.txt log.txt " {
		t.Errorf("in the bundle are %s", names)
	}
	return strings.Join(all, "\n")
}

// numbers are those of a sequence: none comes twice, and each is greater than all that were got before it was asked for.
type numbers struct {
	mu       sync.Mutex
	given    map[int64]bool
	greatest int64
}

func (n *numbers) draw(t *testing.T, next func() (int64, error)) error {
	n.mu.Lock()
	before := n.greatest
	n.mu.Unlock()
	got, err := next()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.given[got] || got <= before {
		t.Errorf("number %d is given, when %d had been; twice: %v", got, before, n.given[got])
	}
	n.given[got] = true
	n.greatest = max(n.greatest, got)
	return nil
}

// holders are those of a lock: one at a time, with tokens that grow.
type holders struct {
	mu     sync.Mutex
	inside int
	last   uint64
	times  int
}

func (h *holders) enter(t *testing.T, token uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inside++; h.inside > 1 {
		t.Errorf("%d have the lock", h.inside)
	}
	if token <= h.last {
		t.Errorf("token %d after %d", token, h.last)
	}
	h.last = token
	h.times++
}

func (h *holders) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inside--
}

// writes are what writers of values were told, by key.
type writes struct {
	mu    sync.Mutex
	acked map[string]int
}

func (w *writes) set(key string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[key] = n
}

func (w *writes) all() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.acked)
}

// lost are the keys whose value is older than one that was acknowledged.
func (w *writes) lost(t *testing.T, read func(key string) (string, error)) (lost int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(w.acked)) {
		value, err := read(key)
		if n, bad := strconv.Atoi(value); err != nil || bad != nil || n < w.acked[key] {
			t.Errorf("%s is %q, %v; %d was acknowledged", key, value, err, w.acked[key])
			lost++
		}
	}
	return lost
}

// addresses is a list in YAML.
func addresses(all []string) string { return `["` + strings.Join(all, `", "`) + `"]` }
