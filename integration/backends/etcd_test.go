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

// TestEtcdFaults: the leader is killed, and frozen, under a load on locks, numbers and configuration of two sidecars of one application.
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
	report := func(what, told string) {
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
		more := settled(t, before, pair...)
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Printf("etcd %s: acked %d lost %d | %s | goroutines %+d\n", what, l.acked, lost, told, more)
	}
	leader := etcdLeader(t, s)
	told := l.during(func() { check(t, leader.Kill()) })
	check(t, leader.Start(t.Context()))
	report("kill -9 of the leader", told())

	leader = etcdLeader(t, s)
	began := time.Now()
	told = l.during(func() { check(t, leader.Freeze()) })
	time.Sleep(frozen - time.Since(began))
	check(t, leader.Thaw())
	report(fmt.Sprintf("leader frozen %s", frozen), told())

	two := s.Nodes[:2]
	told = l.during(func() {
		for _, n := range two {
			check(t, n.Kill())
		}
		time.Sleep(frozen / 2)
		started := make(chan error, len(two))
		for _, n := range two {
			go func() { started <- n.Start(t.Context()) }()
		}
		for range two {
			check(t, <-started)
		}
	})
	report("kill -9 of two of three", told())
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

	for _, n := range s.Nodes {
		check(t, n.Freeze())
	}
	time.Sleep(frozen)
	for _, n := range s.Nodes {
		check(t, n.Thaw())
	}
	r.comesBack(fmt.Sprintf("etcd frozen %s, all members", frozen), time.Now())

	for _, n := range s.Nodes {
		check(t, n.Kill())
	}
	began := make(chan error, len(s.Nodes))
	for _, n := range s.Nodes {
		go func() { began <- n.Start(t.Context()) }()
	}
	for range s.Nodes {
		check(t, <-began)
	}
	r.comesBack("etcd kill -9 of all members", time.Now())
}

// TestEtcdRefuses: a wrong password, and a user who may not, are said within 5 s, and the password nowhere.
func TestEtcdRefuses(t *testing.T) {
	t.Parallel()
	const secret = "canary-77ab"
	s := servers.Run(t, "etcd")
	harness.Binary(t) // is built outside of what is timed
	for _, step := range [][2]string{
		{"/v3/auth/user/add", `{"name": "root", "password": "` + secret + `"}`}, {"/v3/auth/user/add", `{"name": "weak", "password": "` + secret + `"}`},
		{"/v3/auth/user/grant", `{"user": "root", "role": "root"}`}, {"/v3/auth/enable", `{}`},
	} {
		if err := etcdAsk(s.Addr(), step[0], step[1], callTime, nil); err != nil && !strings.Contains(err.Error(), "role name already exists") {
			t.Fatal(step, err)
		}
	}
	for _, c := range []struct{ what, user, password, says string }{
		{"wrong password", "root", secret + "-wrong", "authentication failed"}, {"no permission", "weak", secret, "permission denied"},
	} {
		began := time.Now()
		sidecar := harness.Start(t, harness.Options{App: "app", Config: fmt.Sprintf(`mesh: {registry: ""}
lock: {default: {driver: etcd, options: {etcd: {addresses: %s, user: %s, password: "%s"}}}}
`, addresses(s.Addrs()), c.user, c.password)})
		var err error
		harness.Eventually(t, patience, func() error {
			if _, err = sidecar.Client().Lock("").TryLock(t.Context(), client.LockRequest{Name: "l"}); err == nil || !strings.Contains(err.Error(), c.says) {
				return fmt.Errorf("try lock: %w", err)
			}
			return nil
		})
		took := time.Since(began)
		for _, want := range []string{`lock "default"`, s.Addr()} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not name %s", c.what, err, want)
			}
		}
		if took > 5*time.Second {
			t.Errorf("%s: it took %s until that was said", c.what, took)
		}
		if text := err.Error() + shown(t, sidecar); strings.Contains(text, "canary") {
			t.Errorf("%s: the password is in %s", c.what, text)
		}
		fmt.Printf("etcd %s: said after %.1f s: %v\n", c.what, took.Seconds(), err)
	}
}
