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
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const nacosBack = 5 * time.Second // within which all is there again when a server is

func nacosConfig(s *servers.Server, user, password string) string {
	return strings.ReplaceAll(`mesh: {registry: default, inbound: {advertise: 127.0.0.1}}
registry: {default: {driver: nacos, options: {nacos: NACOS}}}
config: {default: {driver: nacos, options: {nacos: NACOS, list_interval: 1s}}}
`, "NACOS", fmt.Sprintf(`{addresses: %s, user: "%s", password: "%s"}`, addresses(s.Addrs()), user, password))
}

// nacosAsk asks the HTTP interface as its console does.
func nacosAsk(t *testing.T, s *servers.Server, method, path string, form url.Values) (string, error) {
	t.Helper()
	return nacosAs(t, s)(method, path, form)
}

// nacosAs answers what asks the HTTP interface, having logged in once, which takes Nacos long, and again when it is refused.
func nacosAs(t *testing.T, s *servers.Server) (ask func(method, path string, form url.Values) (string, error)) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(client.CloseIdleConnections)
	send := func(method, path, token string, form url.Values) (text string, code int, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), callTime)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr()+"/nacos"+path+"?"+form.Encode(), nil)
		if err != nil {
			return "", 0, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			return "", 0, err
		}
		defer res.Body.Close()
		all, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", res.Status, all)
		}
		return string(all), res.StatusCode, err
	}
	var mu sync.Mutex
	var token string
	login := func(refused string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if token != refused {
			return token, nil // somebody else has
		}
		text, _, err := send(http.MethodPost, "/v1/auth/users/login", "", url.Values{"username": {s.User}, "password": {s.Password}})
		if err != nil {
			return "", err
		}
		answer := struct{ AccessToken string }{}
		err = json.Unmarshal([]byte(text), &answer)
		token = answer.AccessToken
		return token, err
	}
	return func(method, path string, form url.Values) (string, error) {
		with, err := login("")
		if err != nil {
			return "", err
		}
		text, code, err := send(method, path, with, form)
		if code == http.StatusForbidden {
			if with, err = login(with); err == nil {
				text, _, err = send(method, path, with, form)
			}
		}
		return text, err
	}
}

// nacosPut sets a configuration past the sidecars.
func nacosPut(t *testing.T, s *servers.Server, key, value string) {
	t.Helper()
	said, err := nacosAsk(t, s, http.MethodPost, "/v1/cs/configs", url.Values{"dataId": {key}, "group": {"DEFAULT_GROUP"}, "tenant": {"default"}, "content": {value}})
	if err != nil || said != "true" {
		t.Fatalf("put %s: %s, %v", key, said, err)
	}
}

// nacosLists asks the server itself what it lists of a service.
func nacosLists(t *testing.T, s *servers.Server, service string) (int, error) {
	t.Helper()
	text, err := nacosAsk(t, s, http.MethodGet, "/v1/ns/instance/list", url.Values{"serviceName": {service}, "groupName": {"DEFAULT_GROUP"}, "namespaceId": {"default"}})
	list := struct{ Hosts []struct{ IP string } }{}
	if err == nil {
		err = json.Unmarshal([]byte(text), &list)
	}
	return len(list.Hosts), err
}

// meshed are an application with its sidecar, and another's that calls it all the time. No call may fail, whatever becomes of the registry.
type meshed struct {
	callee, caller *harness.Sidecar
	api            *client.Client
	calls, failed  atomic.Int64
	ended          sync.WaitGroup
	stop           context.CancelFunc
}

func newMeshed(t *testing.T, config string) *meshed {
	app := harness.StartEcho(t, "one")
	m := &meshed{callee: harness.Start(t, harness.Options{App: "echo", AppPort: app.Port, Config: config}),
		caller: harness.Start(t, harness.Options{App: "caller", Config: config})}
	m.api = m.caller.Client()
	m.resolves(t, patience, "echo", 1)
	ctx, stop := context.WithCancel(t.Context())
	m.stop = stop
	t.Cleanup(func() { stop(); m.ended.Wait() })
	echo := echopb.NewEchoClient(m.api.Conn("echo"))
	m.ended.Go(func() {
		for ctx.Err() == nil {
			one, cancel := context.WithTimeout(ctx, nacosBack)
			out, err := echo.Unary(one, &echopb.Message{Text: "x"})
			cancel()
			if ctx.Err() != nil {
				return
			}
			if m.calls.Add(1); err != nil || out.GetInstance() != "one" {
				m.failed.Add(1)
				t.Errorf("a call comes to %q, %v", out.GetInstance(), err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	return m
}

// resolves waits until a service has n instances for the caller.
func (m *meshed) resolves(t *testing.T, limit time.Duration, service string, n int) {
	t.Helper()
	harness.Eventually(t, limit, func() error {
		r, err := m.api.Registry().Resolve(t.Context(), client.Service{Name: service})
		if err == nil && len(r.Instances) != n {
			err = fmt.Errorf("%s has %v", service, r.Instances)
		}
		return err
	})
}

// TestNacos has one server, which takes long to start, for all.
func TestNacos(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "nacos", "nacos.core.auth.enabled=true")
	t.Run("It stays", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *servers.Server){"Refuses": nacosRefuses, "Planted": nacosPlanted} {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(t, s) })
		}
	})
	t.Run("Rollback", func(t *testing.T) { nacosRollback(t, s) })
	t.Run("Faults", func(t *testing.T) { nacosFaults(t, s) })
}

// nacosFaults: a server is stopped, killed, and frozen, under a load on the configuration and calls between two sidecars.
// What is watched, registered and listed is there again within 5 s from when the server answers.
func nacosFaults(t *testing.T, s *servers.Server) {
	m := newMeshed(t, nacosConfig(s, s.User, s.Password))
	config := m.api.Config("")
	nacosPut(t, s, "flag", "0")
	flag := make(chan string, 1000)
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for change, err := range config.Watch(watching, "flag") {
			if err == nil && !change.Item.Stale {
				flag <- string(change.Item.Value)
			}
		}
	}()
	told := func(value string) {
		t.Helper()
		for limit := time.After(nacosBack); ; {
			select {
			case got := <-flag:
				if got == value {
					return
				}
			case <-limit:
				t.Fatalf("flag is not told to be %s within %s", value, nacosBack)
			}
		}
	}
	told("0")
	l, writes := newLoad(t), writes{acked: map[string]int{}}
	for i, sidecar := range []*harness.Sidecar{m.callee, m.caller} {
		api, key, n := sidecar.Client().Config(""), fmt.Sprintf("key%d", i), 0
		l.worker(func(ctx context.Context) error {
			n++
			_, err := api.Set(ctx, client.ConfigItem{Key: key, Value: []byte(strconv.Itoa(n))})
			if err == nil {
				writes.set(key, n)
			}
			return err
		})
	}
	before := running(t, m.callee, m.caller)
	away := newNacosAway(t, s)
	for i, f := range faults(t, always(s.Nodes[0])) {
		ready, listed, calls := time.Time{}, time.Duration(0), m.calls.Load() // listed without waiting for the load, too
		during := fault{f.name, f.lose, func() error {
			check(t, f.bring())
			ready = time.Now()
			harness.Eventually(t, nacosBack, func() error {
				if got, err := nacosLists(t, s, "echo"); err != nil || got != 1 {
					return fmt.Errorf("the server lists %d, %v", got, err)
				}
				return nil
			})
			listed = time.Since(ready)
			return nil
		}}
		if strings.HasPrefix(f.name, "kill") {
			during.lose = func() error { err := f.lose(); away.restart(); return err }
		}
		said := l.suffers(during)
		value := strconv.Itoa(i + 1)
		nacosPut(t, s, "flag", value)
		told(value)
		extra := client.Service{Name: "extra" + value}
		_, err := m.callee.Client().Registry().Publish(t.Context(), client.Publication{Service: extra, Port: m.callee.Options.AppPort})
		check(t, err)
		m.resolves(t, nacosBack, extra.Name, 1)
		all := time.Since(ready)
		lost := writes.lost(t, func(key string) (string, error) {
			item, err := config.Get(t.Context(), key)
			return string(item.Value), err
		})
		l.came("nacos "+f.name, said, lost, before, m.callee, m.caller)
		fmt.Printf("nacos %s: registered again %.1f s, all told %.1f s after it was ready | %d calls meanwhile, %d failed\n",
			f.name, listed.Seconds(), all.Seconds(), m.calls.Load()-calls, m.failed.Load())
	}
	l.end()
	away.back()
}

// nacosPlanted: packets to all the ports that the Go SDK would listen on, which have it believe in an instance, get no call.
func nacosPlanted(t *testing.T, s *servers.Server) {
	m := newMeshed(t, nacosConfig(s, s.User, s.Password))
	planted := harness.StartEcho(t, "planted")
	list, err := json.Marshal(map[string]any{"name": "DEFAULT_GROUP@@echo", "groupName": "DEFAULT_GROUP", "valid": true, "cacheMillis": 10000,
		"lastRefTime": time.Now().UnixMilli() + 1000, "hosts": []map[string]any{{"ip": "127.0.0.1", "port": planted.Port, "weight": 100, "healthy": true,
			"enabled": true, "ephemeral": true, "clusterName": "DEFAULT", "serviceName": "DEFAULT_GROUP@@echo"}}})
	check(t, err)
	packet, err := json.Marshal(map[string]any{"type": "dom", "data": string(list), "lastRefTime": time.Now().UnixNano()})
	check(t, err)
	for port := 54951; port <= 55950; port++ {
		conn, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		check(t, err)
		_, _ = conn.Write(packet) // nobody listens
		conn.Close()
	}
	for _, sidecar := range []*harness.Sidecar{m.callee, m.caller} {
		if open := datagrams(t, sidecar.PID()); len(open) > 0 {
			t.Errorf("the sidecar has UDP sockets: %q", open)
		}
	}
	from := m.calls.Load()
	harness.Eventually(t, patience, func() error {
		if m.calls.Load()-from < 500 {
			return errors.New("500 calls are not done")
		}
		return nil
	})
	m.resolves(t, patience, "echo", 1)
	if n := planted.Calls.Load(); n > 0 {
		t.Errorf("%d calls have reached a false instance", n)
	}
	fmt.Printf("nacos planted instance: %d calls, none to it\n", m.calls.Load())
}

// datagrams are the UDP sockets of a process.
func datagrams(t *testing.T, pid int) (open []string) {
	t.Helper()
	table := ""
	for _, name := range []string{"udp", "udp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		check(t, err)
		table += string(text)
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		to, err := os.Readlink(f)
		if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok && strings.Contains(table, " "+strings.TrimSuffix(inode, "]")+" ") {
			open = append(open, f)
		}
	}
	return open
}

// nacosAway are sidecars with one data folder that start while no server is there. They serve what they had read before, as stale, from that folder,
// and write nothing elsewhere.
type nacosAway struct {
	t         *testing.T
	server    *servers.Server
	home, dir string
	here      string // what is in the working folder
	all       []*harness.Sidecar
}

func newNacosAway(t *testing.T, s *servers.Server) *nacosAway {
	a := &nacosAway{t: t, server: s, home: t.TempDir(), dir: t.TempDir(), here: listing(t, ".")}
	nacosPut(t, s, "a", "1")
	a.start()
	a.want("1", false)
	return a
}

func (a *nacosAway) start() {
	a.all = nil
	for _, app := range []string{"one", "two"} {
		a.all = append(a.all, harness.Start(a.t, harness.Options{App: app, DataDir: a.dir, Config: nacosConfig(a.server, a.server.User, a.server.Password),
			Env: []string{"HOME=" + a.home, "TMPDIR=" + a.home}}))
	}
}

func (a *nacosAway) want(value string, stale bool) {
	a.t.Helper()
	for _, sidecar := range a.all {
		api := sidecar.Client().Config("")
		harness.Eventually(a.t, nacosBack, func() error {
			item, err := api.Get(a.t.Context(), "a")
			if err == nil && (string(item.Value) != value || item.Stale != stale) {
				err = fmt.Errorf("a is %q, stale: %v", item.Value, item.Stale)
			}
			return err
		})
	}
}

// restart is called while no server is there.
func (a *nacosAway) restart() {
	for _, sidecar := range a.all {
		sidecar.Stop()
	}
	a.start()
	a.want("1", true)
}

// back is called when one is there again.
func (a *nacosAway) back() {
	nacosPut(a.t, a.server, "a", "2")
	a.want("2", false)
	if files := listing(a.t, a.home); files != "" {
		a.t.Errorf("in the home of the sidecars are %s", files)
	}
	if now := listing(a.t, "."); now != a.here {
		a.t.Errorf("in the working folder are %s, before %s", now, a.here)
	}
	for _, name := range []string{"log", "cache"} { // of the Go SDK
		if _, err := os.Stat(filepath.Join(filepath.Dir(harness.Binary(a.t)), name)); err == nil {
			a.t.Errorf("beside the binary is a folder %s", name)
		}
	}
	if folders, err := filepath.Glob(filepath.Join(a.dir, "nacos", "*", "*")); err != nil || len(folders) != 2 {
		a.t.Errorf("the sidecars keep their snapshots in %q, %v", folders, err)
	}
	fmt.Println("nacos away at the start of 2 sidecars: served from their snapshots, as stale | new values when it was back")
}

// listing are the names in a folder, but for sources.
func listing(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	check(t, err)
	names := []string{}
	for _, one := range all {
		if !strings.HasSuffix(one.Name(), ".go") {
			names = append(names, one.Name())
		}
	}
	return strings.Join(names, " ")
}
