package backends_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func etcdConfig(s *servers.Server) string {
	return strings.ReplaceAll(`mesh: {registry: default, inbound: {advertise: 127.0.0.1}}
registry: {default: {driver: etcd, options: {etcd: ETCD, ttl: 3s}}}
config: {default: {driver: etcd, options: {etcd: ETCD}}}
lock: {default: {driver: etcd, options: {etcd: ETCD, wait_ttl: 2s}}}
sequence: {default: {driver: etcd, options: {etcd: ETCD}}}
`, "ETCD", "{addresses: "+addresses(s.Addrs())+", timeout: 3s}")
}

// etcdAsk asks a member over HTTP.
func etcdAsk(addr, path, body string, limit time.Duration, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewBufferString(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return err
}

// etcdLeader waits until one of the members is the leader of all that run.
func etcdLeader(t *testing.T, s *servers.Server) (leader *servers.Node) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		for _, n := range s.Nodes {
			var status struct {
				Leader string
				Header struct {
					MemberID string `json:"member_id"`
				}
			}
			if etcdAsk(n.Addr, "/v3/maintenance/status", "{}", 2*time.Second, &status) == nil && status.Leader == status.Header.MemberID {
				leader = n
				return nil
			}
		}
		return fmt.Errorf("there is no leader")
	})
	return leader
}

// TestEtcdFaults: the leader is stopped, killed, and frozen, and most members are killed, under a load on locks, numbers and configuration of two sidecars of one application.
func TestEtcdFaults(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "etcd-cluster")
	pair := []*harness.Sidecar{}
	for range 2 {
		pair = append(pair, harness.Start(t, harness.Options{App: "app", Config: etcdConfig(s)}))
	}
	l := newLoad(t)
	numbers, holders, writes := numbers{given: map[int64]bool{}}, holders{}, writes{acked: map[string]int{}}
	for i, sidecar := range pair {
		c := sidecar.Client()
		for w := range 2 {
			l.worker(func(ctx context.Context) error {
				lease, err := c.Lock("").Lock(ctx, client.LockRequest{Name: "l", Lease: 5 * time.Second})
				if err != nil {
					return err
				}
				holders.enter(t, lease.Token)
				time.Sleep(time.Millisecond)
				holders.leave()
				return c.Lock("").Unlock(ctx, "l", lease.Token)
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
				_, err := c.Config("").Set(ctx, client.ConfigItem{Key: key, Value: []byte(strconv.Itoa(n))})
				if err == nil {
					writes.set(key, n)
				}
				return err
			})
		}
	}
	// A watch at one sidecar sees what is set at both.
	var watched sync.Map
	watching := make(chan struct{})
	changes := pair[1].Client().Config("").WatchPrefix(l.ctx, "key")
	go func() {
		defer close(watching)
		last := map[string]int{}
		for change, err := range changes {
			if err != nil {
				return
			}
			n, err := strconv.Atoi(string(change.Item.Value))
			if err != nil || n < last[change.Key] {
				t.Errorf("the watch tells of %q after %d: %v", change.Item.Value, last[change.Key], err)
			}
			last[change.Key] = n
			watched.Store(change.Key, n)
		}
	}()
	t.Cleanup(func() { l.end(); <-watching })
	harness.Eventually(t, patience, func() error {
		if holders.mu.Lock(); holders.times < 20 {
			defer holders.mu.Unlock()
			return fmt.Errorf("the lock was given %d times", holders.times)
		}
		holders.mu.Unlock()
		return nil
	})
	before := running(t, pair...)

	reader := pair[0].Client().Config("")
	report := func(what string, said func() string) {
		lost := writes.lost(t, func(key string) (string, error) {
			var item client.ConfigItem
			harness.Eventually(t, patience, func() (err error) {
				if item, err = reader.Get(t.Context(), key); err == nil && item.Stale {
					err = fmt.Errorf("%s is stale", key)
				}
				return err
			})
			return string(item.Value), nil
		})
		harness.Eventually(t, patience, func() error {
			acked := writes.all()
			for key, n := range acked {
				if told, _ := watched.Load(key); told == nil || told.(int) < n {
					return fmt.Errorf("the watch has told of %v of %s, %d was acknowledged", told, key, n)
				}
			}
			return nil
		})
		l.came("etcd "+what, said, lost, before, pair...)
	}
	for _, f := range faults(t, func() *servers.Node { return etcdLeader(t, s) }) {
		report(f.name+" of the leader", l.outlives(f))
	}

	two := s.Nodes[:2]
	said := l.during(func() {
		check(t, together(two, (*servers.Node).Kill))
		time.Sleep(frozen / 2)
		check(t, together(two, func(n *servers.Node) error { return n.Start(t.Context()) }))
	})
	report("kill -9 of two of three", said)
	l.end()
}

// TestEtcdRegistryFaults: a record outlives the leader, and comes back when its lease has ended, because its sidecar was stopped or because
// etcd was.
func TestEtcdRegistryFaults(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "etcd-cluster")
	r := newSeen(t, etcdConfig(s))
	leader := etcdLeader(t, s)
	check(t, leader.Kill())
	etcdLeader(t, s)
	check(t, leader.Start(t.Context()))
	time.Sleep(4 * time.Second) // longer than the lease
	r.stays("etcd kill -9 of the leader")

	r.stopped("etcd and a sidecar that is stopped")

	for _, f := range []fault{
		{"frozen " + frozen.String() + ", all members", func() error { return together(s.Nodes, (*servers.Node).Freeze) }, func() error { return together(s.Nodes, (*servers.Node).Thaw) }},
		{"kill -9 " + frozen.String() + ", all members", func() error { return together(s.Nodes, (*servers.Node).Kill) },
			func() error { return together(s.Nodes, func(n *servers.Node) error { return n.Start(t.Context()) }) }},
	} {
		r.suffers("etcd", f)
	}
}

// together has the same happen to nodes at once.
func together(nodes []*servers.Node, happens func(*servers.Node) error) error {
	var all errgroup.Group
	for _, n := range nodes {
		all.Go(func() error { return happens(n) })
	}
	return all.Wait()
}
