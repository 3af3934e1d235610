package backends_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// central is a registry as those write it whose instances have no sidecar.
type central struct {
	kind, config string // of the server; of a sidecar, with the server's address
	open         func(t *testing.T, s *servers.Server) (put, remove func(service string, i *plain) error)
	settings     []string // of the server
}

// plain is an instance without a sidecar.
type plain struct {
	port, weight int
	calls        atomic.Int64
}

const (
	plainHold = 4 * time.Second // how long a registry is not believed that drops all instances
	minutes   = 2 * time.Minute // for which one is away
)

var centrals = []central{
	{"etcd", "etcd, options: {etcd: {addresses: [%q]}}", openEtcd, nil},
	{"zookeeper", "zookeeper, options: {addresses: [%q], session: 4s}", openZookeeper, nil},
	{"nacos", "nacos, options: {nacos: {addresses: [%q], user: USER, password: PASSWORD}}", openNacos, []string{"nacos.core.auth.enabled=true"}},
}

func openEtcd(t *testing.T, s *servers.Server) (put, remove func(string, *plain) error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + s.Addr()}, DialTimeout: callTime})
	check(t, err)
	t.Cleanup(func() { client.Close() })
	key := func(service string, i *plain) string {
		return fmt.Sprintf("outrigger/registry/default//%s/127.0.0.1:%d/plain", service, i.port)
	}
	put = func(service string, i *plain) error {
		ctx, cancel := context.WithTimeout(t.Context(), callTime)
		defer cancel()
		_, err := client.Put(ctx, key(service, i), fmt.Sprintf(`{"weight":%d}`, i.weight))
		return err
	}
	return put, func(service string, i *plain) error {
		ctx, cancel := context.WithTimeout(t.Context(), callTime)
		defer cancel()
		_, err := client.Delete(ctx, key(service, i))
		return err
	}
}

func openZookeeper(t *testing.T, s *servers.Server) (put, remove func(string, *plain) error) {
	conn, _, err := zk.Connect(s.Addrs(), 10*time.Second, zk.WithLogger(silent{}))
	check(t, err)
	t.Cleanup(conn.Close)
	node := func(service string, i *plain) string { return fmt.Sprintf("/services/%s/%d", service, i.port) }
	put = func(service string, i *plain) error {
		data := fmt.Appendf(nil, `{"name":%q,"id":"%d","address":"127.0.0.1","port":%[2]d,"payload":{"@class":"x","metadata":{"weight":"%d"}}}`, service, i.port, i.weight)
		_, err := conn.Set(node(service, i), data, -1)
		if !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		for _, folder := range []string{"/services", "/services/" + service} {
			if _, err := conn.Create(folder, nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				return err
			}
		}
		_, err = conn.Create(node(service, i), data, 0, zk.WorldACL(zk.PermAll))
		return err
	}
	return put, func(service string, i *plain) error { return conn.Delete(node(service, i), -1) }
}

func openNacos(t *testing.T, s *servers.Server) (put, remove func(string, *plain) error) {
	as := nacosAs(t, s)
	ask := func(method, service string, i *plain) error {
		said, err := as(method, "/v1/ns/instance", url.Values{"serviceName": {service}, "groupName": {"DEFAULT_GROUP"}, "namespaceId": {"public"}, "ip": {"127.0.0.1"},
			"port": {strconv.Itoa(i.port)}, "weight": {strconv.Itoa(i.weight)}, "ephemeral": {"false"}})
		if err == nil && said != "ok" {
			err = errors.New(said)
		}
		return err
	}
	return func(service string, i *plain) error { return ask(http.MethodPost, service, i) },
		func(service string, i *plain) error { return ask(http.MethodDelete, service, i) }
}

// troubled is a service of four instances, a sidecar that finds them in a registry, and calls through it, of which none may fail.
type troubled struct {
	t           *testing.T
	config      string // of a sidecar
	put, remove func(string, *plain) error
	all         []*plain
	sidecar     *harness.Sidecar
	calls       atomic.Int64
	gone        atomic.Bool // the calls' failures are looked for by the test itself
}

func (p *plain) serve(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { p.calls.Add(1); io.WriteString(w, "ok") })}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	p.port = ln.Addr().(*net.TCPAddr).Port
}

func newTroubled(t *testing.T, c central, s *servers.Server) *troubled {
	r := &troubled{t: t, config: fmt.Sprintf("registry: {default: {driver: "+strings.NewReplacer("USER", s.User, "PASSWORD", s.Password).Replace(c.config)+"}}\nmesh: {registry: default, hold: %s, inbound: {advertise: 127.0.0.1}}\n", s.Addr(), plainHold)}
	r.put, r.remove = c.open(t, s)
	for range 4 {
		p := &plain{weight: 1}
		p.serve(t)
		r.all = append(r.all, p)
		harness.Eventually(t, patience, func() error { return r.put("plain", p) })
	}
	r.sidecar = r.start("caller")
	client := &http.Client{Timeout: callTime, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	t.Cleanup(client.CloseIdleConnections)
	r.sees(4, false, func() { r.call(client, r.sidecar) })
	ended := make(chan struct{})
	var workers sync.WaitGroup
	t.Cleanup(func() { close(ended); workers.Wait() })
	for range 4 {
		workers.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(pace):
				}
				if err := r.call(client, r.sidecar); err != nil && !r.gone.Load() {
					t.Errorf("call %d fails: %v", r.calls.Load(), err)
				}
				r.calls.Add(1)
			}
		})
	}
	return r
}

func (r *troubled) start(app string) *harness.Sidecar {
	r.t.Helper()
	return harness.Start(r.t, harness.Options{App: app, Config: r.config})
}

func (r *troubled) call(client *http.Client, by *harness.Sidecar) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+by.Outbound+"/", http.NoBody)
	if err != nil {
		return err
	}
	req.Host = "plain"
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	return err
}

// sees waits until the sidecar has so many instances of the service, and holds some that were dropped, or none.
func (r *troubled) sees(instances int, held bool, meanwhile func()) {
	r.t.Helper()
	harness.Eventually(r.t, patience, func() error {
		if meanwhile != nil {
			meanwhile()
		}
		var info struct {
			Services []struct {
				Name            string
				Instances, Held int
			}
		}
		res, err := http.Get("http://" + r.sidecar.Admin + "/info")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&info); err != nil {
			return err
		}
		for _, s := range info.Services {
			if strings.Contains(s.Name, "plain") && s.Instances == instances && (s.Held > 0) == held {
				return nil
			}
		}
		return fmt.Errorf("services %+v, want %d, held: %v", info.Services, instances, held)
	})
}

func (r *troubled) each(do func(string, *plain) error) {
	r.t.Helper()
	for _, p := range r.all {
		harness.Eventually(r.t, patience, func() error { return do("plain", p) })
	}
}

// TestRegistryTrouble: whatever becomes of a registry, calls go on; what it says for long is believed in the end.
func TestRegistryTrouble(t *testing.T) {
	t.Parallel()
	for _, c := range centrals {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			s := servers.Run(t, c.kind, c.settings...)
			r := newTroubled(t, c, s)
			r.churn(c.kind)

			r.each(r.remove) // all at once, by mistake
			r.sees(0, true, nil)
			r.each(r.put)
			r.sees(4, false, nil)
			for range 5 {
				r.each(r.remove)
				r.each(r.put)
			}
			r.sees(4, false, nil)
			fmt.Printf("%s: emptied and filled again 6 times\n", c.kind)

			r.flaps(c.kind, s.Nodes[0])
			r.away(c, s.Nodes[0])

			r.each(r.remove) // and now it is meant
			began := time.Now()
			r.sees(0, true, nil) // calls go on until it is believed
			r.gone.Store(true)
			r.sees(0, false, nil)
			if took := time.Since(began); took < plainHold/2 {
				t.Errorf("no instance is left after %v: it was believed at once", took)
			}
			client := &http.Client{Timeout: callTime}
			if err := r.call(client, r.sidecar); err == nil || !strings.Contains(err.Error(), "NO_INSTANCE") {
				t.Errorf("a call to a service without instances: %v", err)
			}
			client.CloseIdleConnections()
			fmt.Printf("%s: scaled to zero: believed after %.1f s | %d calls\n", c.kind, time.Since(began).Seconds(), r.calls.Load())
		})
	}
}

// flaps has the server killed and started, three times, and left alone for no more than some calls between.
func (r *troubled) flaps(kind string, node *servers.Node) {
	before, began := r.calls.Load(), time.Now()
	for range 3 {
		check(r.t, node.Kill())
		r.goOn(100)
		check(r.t, node.Start(r.t.Context()))
		r.goOn(100)
	}
	r.sees(4, false, nil)
	r.lastCounts()
	fmt.Printf("%s: killed and started 3 times within %.1f s: %d calls meanwhile\n", kind, time.Since(began).Seconds(), r.calls.Load()-before)
}

// away has the server gone for a while. A sidecar that starts meanwhile calls what it has known before; one that has known nothing does when the
// server is there again.
func (r *troubled) away(c central, node *servers.Node) {
	client := &http.Client{Timeout: callTime}
	defer client.CloseIdleConnections()
	known := r.start("known")
	harness.Eventually(r.t, patience, func() error { return r.call(client, known) })
	if code := known.Stop(); code != 0 {
		r.t.Errorf("a sidecar ended with %d", code)
	}
	check(r.t, node.Kill())
	before, over := r.calls.Load(), time.After(max(frozen, minutes))
	known = harness.Start(r.t, known.Options)
	if err := r.call(client, known); err != nil {
		r.t.Errorf("the registry is away, and a sidecar has been started anew: %v", err)
	}
	fresh := r.start("fresh")
	if err := r.call(client, fresh); err == nil || !strings.Contains(err.Error(), "REGISTRY_AWAY") {
		r.t.Errorf("the registry is away, and a sidecar has never known it: %v", err)
	}
	<-over
	check(r.t, node.Start(r.t.Context()))
	r.each(r.put)
	r.sees(4, false, nil)
	r.lastCounts()
	harness.Eventually(r.t, patience, func() error { return errors.Join(r.call(client, fresh), r.call(client, known)) })
	fmt.Printf("%s: away %s: %d calls meanwhile\n", c.kind, max(frozen, minutes), r.calls.Load()-before)
}

// goOn waits for so many more calls.
func (r *troubled) goOn(calls int64) {
	for end := r.calls.Load() + calls; r.calls.Load() < end; {
		time.Sleep(time.Millisecond)
	}
}

// churnOf is how many changes there are: three seconds of a thousand each, where a registry takes so many.
const churnOf = 3000

var oneChurns sync.Mutex // so that each registry has the machine for it

// churn changes instances as fast as the registry takes it.
func (r *troubled) churn(kind string) {
	oneChurns.Lock()
	defer oneChurns.Unlock()
	var changes atomic.Int64
	began := time.Now()
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			for n := w; n < churnOf; n += 16 {
				p := &plain{port: r.all[n%len(r.all)].port, weight: 1 + n%7}
				if err := r.put("plain", p); err != nil {
					r.t.Errorf("change %d: %v", n, err)
					return
				}
				changes.Add(1)
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	r.sees(4, false, nil)
	r.lastCounts()
	fmt.Printf("%s: %.0f changes a second, %d calls meanwhile\n", kind, float64(changes.Load())/took.Seconds(), r.calls.Load())
}

// lastCounts changes an instance, and waits until calls show it.
func (r *troubled) lastCounts() {
	r.t.Helper()
	for _, weight := range []int{0, 1} {
		last := r.all[0]
		harness.Eventually(r.t, patience, func() error { return r.put("plain", &plain{port: last.port, weight: weight}) })
		harness.Eventually(r.t, patience, func() error {
			before := last.calls.Load()
			r.goOn(100)
			if n := last.calls.Load() - before; (n > 0) != (weight > 0) {
				return fmt.Errorf("of 100 calls %d went to the instance whose weight is %d by now", n, weight)
			}
			return nil
		})
	}
}

// silent keeps what a client library logs, which is away on purpose, out of what is seen of the faults.
type silent struct{}

func (silent) Printf(string, ...any) {}
