package backends_test

import (
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
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// arrival is a line of the providers' log: a request as it came.
type arrival struct {
	from   string
	meshed bool // the provider has a sidecar
	at     time.Time
}

// migrated are two providers of one service, one with a sidecar and one that has registered itself, and sidecars whose applications call
// it all the time.
type migrated struct {
	t         *testing.T
	server    *servers.Server
	consumers []*harness.Sidecar

	mu  sync.Mutex
	log []arrival
}

const (
	consumers    = 20
	callPause    = 50 * time.Millisecond // between the calls of each
	policyKey    = "mesh.policies"
	rollbackTime = time.Second
	rollbackRuns = 3 // of which one has to keep to the time: the machine may be busy with others
)

func (m *migrated) provider(meshed bool) (port int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(m.t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		m.mu.Lock()
		m.log = append(m.log, arrival{r.Header.Get("x-from"), meshed, now})
		m.mu.Unlock()
		io.WriteString(w, "ok")
	})}
	go s.Serve(ln)
	m.t.Cleanup(func() { s.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

// register writes the record of a provider without a sidecar, as its framework would, again and again until the test ends.
func (m *migrated) register(port int) {
	form := url.Values{"serviceName": {"stock"}, "groupName": {"DEFAULT_GROUP"}, "namespaceId": {"public"}, "ip": {"127.0.0.1"}, "port": {strconv.Itoa(port)}, "ephemeral": {"true"}}
	put := func() error {
		said, err := nacosAsk(m.t, m.server, http.MethodPost, "/v1/ns/instance", form)
		if err == nil && said != "ok" {
			err = errors.New(said)
		}
		return err
	}
	harness.Eventually(m.t, patience, put)
	var beats sync.WaitGroup
	ended := make(chan struct{})
	m.t.Cleanup(func() { close(ended); beats.Wait() })
	beats.Go(func() {
		for tick := time.NewTicker(4 * time.Second); ; {
			select {
			case <-tick.C:
				_ = put() // the next one may go through
			case <-ended:
				tick.Stop()
				return
			}
		}
	})
}

func (m *migrated) call(client *http.Client, s *harness.Sidecar) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+s.Outbound+"/left", nil)
	if err != nil {
		return err
	}
	req.Host = "stock"
	req.Header.Set("x-from", s.Options.App)
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

// calls has a sidecar's application call until the test ends; no call may fail.
func (m *migrated) calls(s *harness.Sidecar, ended <-chan struct{}) {
	client := &http.Client{Timeout: callTime, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		if err := m.call(client, s); err != nil {
			m.t.Errorf("a call of %s fails: %v", s.Options.App, err)
		}
		select {
		case <-ended:
			return
		case <-time.After(callPause):
		}
	}
}

// since are the arrivals from a place in the log on, and the place after them.
func (m *migrated) since(from int) ([]arrival, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.log[from:len(m.log):len(m.log)], len(m.log)
}

// settle waits until the last n calls of each consumer, at least, have arrived at the providers that are wanted.
func (m *migrated) settle(n int, meshed bool) {
	m.t.Helper()
	_, from := m.since(0)
	harness.Eventually(m.t, patience, func() error {
		last := map[string]int{}
		arrived, _ := m.since(from)
		for _, a := range arrived {
			if last[a.from]++; a.meshed != meshed {
				last[a.from] = 0
			}
		}
		for _, s := range m.consumers {
			if last[s.Options.App] < n {
				return fmt.Errorf("meshed %v: %v", meshed, last)
			}
		}
		return nil
	})
}

func (m *migrated) put(percent string) {
	m.t.Helper()
	nacosPut(m.t, m.server, policyKey, "migration: [{service: stock, mesh: "+percent+"}]\n")
}

// shown waits until each consumer shows policies as they are wanted.
func (m *migrated) shown(want func(source, version, refused string) bool) {
	m.t.Helper()
	for _, s := range m.consumers {
		harness.Eventually(m.t, patience, func() error {
			res, err := http.Get("http://" + s.Admin + "/info")
			if err != nil {
				return err
			}
			defer res.Body.Close()
			var info struct {
				Policies struct{ Source, Version, Refused string }
			}
			if err := json.NewDecoder(res.Body).Decode(&info); err != nil {
				return err
			}
			if p := info.Policies; !want(p.Source, p.Version, p.Refused) {
				return fmt.Errorf("%s shows %+v", s.Options.App, p)
			}
			return nil
		})
	}
}

// nacosRollback: what is written into Nacos of which calls take the way through sidecars holds on all of many sidecars a second after it was acknowledged, by the providers'
// own log. What has a fault holds nowhere.
func nacosRollback(t *testing.T, s *servers.Server) {
	m := &migrated{t: t, server: s}
	m.put("50%")
	callee := harness.Options{App: "stock", AppPort: m.provider(true), Protocol: "http", Config: nacosConfig(s, s.User, s.Password)}
	m.register(m.provider(false))
	started := []*harness.Sidecar{}
	launch := func(o harness.Options) *harness.Sidecar {
		one, err := harness.Launch(t, o)
		check(t, err)
		started = append(started, one)
		return one
	}
	launch(callee)
	config := strings.Replace(callee.Config, "mesh: {", "mesh: {policies_from: {component: default, key: "+policyKey+"}, ", 1)
	for i := range consumers {
		m.consumers = append(m.consumers, launch(harness.Options{App: fmt.Sprintf("orders%d", i), Config: config}))
	}
	for _, one := range started {
		check(t, one.Ready())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the provider's sidecar said:\n%s\na consumer's:\n%s", started[0].Output(), started[1].Output())
		}
	})
	for _, one := range m.consumers { // each has heard of the providers
		harness.Eventually(t, patience, func() error { return m.call(http.DefaultClient, one) })
	}
	ended := make(chan struct{})
	var load sync.WaitGroup
	for _, one := range m.consumers {
		load.Go(func() { m.calls(one, ended) })
	}
	end := sync.OnceFunc(func() { close(ended); load.Wait() })
	defer end()
	harness.Eventually(t, patience, func() error { // both ways are known to all, and taken
		ways := map[string]map[bool]bool{}
		arrived, _ := m.since(0)
		for _, a := range arrived {
			if ways[a.from] == nil {
				ways[a.from] = map[bool]bool{}
			}
			ways[a.from][a.meshed] = true
		}
		for _, one := range m.consumers {
			if len(ways[one.Options.App]) != 2 {
				return fmt.Errorf("%s has taken the ways %v", one.Options.App, ways[one.Options.App])
			}
		}
		return nil
	})
	best := time.Hour
	for run := 1; run <= rollbackRuns && best > rollbackTime; run++ {
		m.put("100%")
		m.settle(5, true)
		_, from := m.since(0)
		m.put("0%")
		acknowledged := time.Now()
		m.settle(20, false)
		var last time.Duration
		calls, late := 0, 0
		arrived, _ := m.since(from)
		for _, a := range arrived {
			if after := a.at.Sub(acknowledged); after > 0 {
				if calls++; a.meshed {
					last = max(last, after)
					late++
				}
			}
		}
		best = min(best, last)
		fmt.Printf("nacos rollback %d: %d sidecars, %d calls after the acknowledgement, %d of them through the provider's sidecar, the last after %d ms\n", run, consumers, calls, late, last.Milliseconds())
	}
	if best > rollbackTime {
		t.Errorf("calls take the way through the sidecar for %v after it was rolled back", best)
	}
	version := ""
	m.shown(func(source, v, refused string) bool {
		version = v
		return source == "config default/"+policyKey && v != "" && refused == ""
	})
	m.put("200%")
	m.shown(func(_, v, refused string) bool { return v == version && strings.Contains(refused, "migration.0.mesh") })
	m.settle(5, false)
	end()
	arrived, _ := m.since(0)
	fmt.Printf("nacos policies with a fault: refused by %d sidecars, %d calls in all, failed %v\n", consumers, len(arrived), t.Failed())
}
