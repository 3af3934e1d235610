package lock_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var app = components.Caller{Namespace: "shop", App: "orders"}

// fake is a driver without a queue, whose clock is that of the test.
type fake struct {
	mu      sync.Mutex
	tokens  uint64
	holders map[string]holder
	calls   int
	away    error  // what calls meanwhile fail with
	during  func() // within each TryLock that gives the lock
}

type holder struct {
	token uint64
	owner string
	end   time.Time
}

func newFake() *fake { return &fake{holders: map[string]holder{}} }

func front(d lock.Driver) (*lock.Lock, *components.Component[lock.Driver]) {
	c := components.NewComponent[lock.Driver](components.ID{Capability: "lock", Name: "default", Driver: "fake"}, components.Limits{}, nil)
	c.Set(d)
	return lock.New(c), c
}

func (f *fake) begin(key string) (h holder, held bool, err error) {
	f.calls++
	if f.away != nil {
		return h, false, f.away
	}
	h, held = f.holders[key]
	return h, held && time.Now().Before(h.end), nil
}

func (f *fake) TryLock(_ context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, held, err := f.begin(key)
	switch {
	case err != nil:
		return lock.Lease{}, err
	case held && h.owner != owner:
		return lock.Lease{}, lock.Held(time.Until(h.end))
	case !held:
		f.tokens++
		h = holder{token: f.tokens, owner: owner}
	}
	h.end = time.Now().Add(lease)
	f.holders[key] = h
	if f.during != nil {
		f.during()
	}
	return lock.Lease{Token: h.token, Lease: lease}, nil
}

func (f *fake) Renew(_ context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, held, err := f.begin(key)
	if err != nil {
		return 0, err
	}
	if !held || h.token != token {
		return 0, lock.Lost()
	}
	h.end = time.Now().Add(lease)
	f.holders[key] = h
	return lease, nil
}

func (f *fake) Unlock(_ context.Context, key string, token uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, held, err := f.begin(key)
	if err != nil {
		return err
	}
	if !held || h.token != token {
		return lock.Lost()
	}
	delete(f.holders, key)
	return nil
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// holder is who has the lock "l" now; 0: nobody.
func (f *fake) holder() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.holders["shop/orders/l"]
	if !time.Now().Before(h.end) {
		return 0
	}
	return h.token
}
