package backends_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// postgresConfig has the options of the connection in place of OPTIONS.
func postgresConfig(options string) string {
	return strings.ReplaceAll(`state: {default: {driver: postgres, options: {postgres: {OPTIONS}}}}
lock: {default: {driver: postgres, options: {postgres: {OPTIONS}}}}
sequence: {default: {driver: postgres, options: {postgres: {OPTIONS}}}}
`, "OPTIONS", options)
}

func postgresOptions(s *servers.Server, user, password string) string {
	return fmt.Sprintf(`addresses: %s, user: %q, password: %q, timeout: 2s, connect_timeout: 1s`, addresses(s.Addrs()), user, password)
}

// TestPostgresFaults: the server is stopped, killed and frozen under a load on values, locks and numbers of two sidecars of one application.
func TestPostgresFaults(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres")
	pair := []*harness.Sidecar{}
	for range 2 {
		pair = append(pair, harness.Start(t, harness.Options{App: "app", Config: postgresConfig(postgresOptions(s, s.User, s.Password))}))
	}
	l := newLoad(t)
	numbers, holders, writes, versions := numbers{given: map[int64]bool{}}, holders{}, writes{acked: map[string]int{}}, serials{last: map[string]int64{}}
	for i, sidecar := range pair {
		c := sidecar.Client()
		for w := range 2 {
			l.worker(func(ctx context.Context) error {
				lease, err := c.Lock("").Lock(ctx, client.LockRequest{Name: "l", Lease: 20 * time.Second})
				if err != nil {
					return err
				}
				holders.enter(t, lease.Token)
				time.Sleep(time.Millisecond)
				holders.leave()
				return unlocked(ctx, c, lease.Token)
			})
			l.worker(func(ctx context.Context) error {
				return numbers.draw(t, func() (int64, error) {
					row, err := c.Sequence("").Next(ctx, "k", 1)
					return row.First, err
				})
			})
			key, n := fmt.Sprintf("key%d-%d", i, w), 0
			l.worker(func(ctx context.Context) error {
				n++
				version, err := c.State("").Set(ctx, key, client.Item{Value: []byte(strconv.Itoa(n))})
				if err == nil {
					writes.set(key, n)
					versions.grows(t, key, version)
				}
				return err
			})
		}
	}
	harness.Eventually(t, patience, func() error {
		holders.mu.Lock()
		defer holders.mu.Unlock()
		if holders.times < 20 {
			return fmt.Errorf("the lock was given %d times", holders.times)
		}
		return nil
	})
	before := running(t, pair...)
	for _, f := range faults(t, always(s.Nodes[0])) {
		said := l.suffers(f)
		lost := writes.lost(t, func(key string) (string, error) {
			item, err := pair[0].Client().State("").Get(t.Context(), key)
			return string(item.Value), err
		})
		l.came("postgres "+f.name, said, lost, before, pair...)
	}
	l.end()
	fmt.Printf("postgres: after the load goroutines %+d\n", settled(t, before, pair...))
}

// unlocked frees the lock. That it is not held any more is no fault of a call that was repeated because nobody knew of the first.
func unlocked(ctx context.Context, c *client.Client, token uint64) error {
	for again := false; ; again = true {
		err := c.Lock("").Unlock(ctx, "l", token)
		if err == nil || again && client.Reason(err) == "LOCK_LOST" {
			return nil
		}
		if ctx.Err() != nil || client.Reason(err) == "LOCK_LOST" {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// serials are the numbers that versions begin with.
type serials struct {
	mu   sync.Mutex
	last map[string]int64
}

// grows holds that a key's versions do. For one writer a key.
func (s *serials) grows(t *testing.T, key, version string) {
	number, _, _ := strings.Cut(version, "-")
	n, err := strconv.ParseInt(number, 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || n <= s.last[key] {
		t.Errorf("%s: version %q after %d", key, version, s.last[key])
	}
	s.last[key] = n
}

// TestPostgresMayLose: a server that does not keep what it acknowledges is refused, unless that is allowed.
func TestPostgresMayLose(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres", "fsync=off")
	options := postgresOptions(s, s.User, s.Password)
	sidecar := harness.Start(t, harness.Options{App: "app", Config: postgresConfig(options)})
	harness.Eventually(t, patience, func() error {
		if _, err := sidecar.Client().State("").Get(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "fsync = off") {
			return fmt.Errorf("it answers %v", err)
		}
		return nil
	})
	allowed := harness.Start(t, harness.Options{App: "app", Config: postgresConfig(options + ", allow_loss: true")})
	harness.Eventually(t, patience, func() error {
		_, err := allowed.Client().State("").Set(t.Context(), "k", client.Item{})
		return err
	})
}
