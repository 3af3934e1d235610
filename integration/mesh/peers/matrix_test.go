package peers_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// Who moves to the mesh before the other does.
const consumerFirst, providerFirst = "consumer", "provider"

// protocols are what the frameworks call by.
var protocols = map[string]string{"plain": "http", "node": "bolt", "sofa": "bolt", "sofaboot": "bolt", "dubbo3": "dubbo", "dubbo27": "dubbo", "spring": "http", "springzk": "http"}

// load is calls that go on while something is changed.
type load struct {
	first     string
	j         *jvm
	reference string
}

func begin(first string, j *jvm, reference string) load {
	j.t.Helper()
	j.do("load %s", reference)
	return load{first, j, reference}
}

// more has the load go on while its peer makes as many calls beside it as a busy machine makes within a second.
func (l load) more() {
	l.j.t.Helper()
	for range 300 {
		if _, err := l.j.try("call %s more", l.reference); err != nil {
			l.j.t.Error(err)
			return
		}
	}
}

// ends counts the calls, of which none may have failed. They were begun in a state, consumer's side and provider's, and what has happened meanwhile is told.
func (l load) ends(state, what string) int {
	l.j.t.Helper()
	said := l.j.do("stop %s", l.reference)
	var calls, failed int
	fmt.Sscan(said, &calls, &failed)
	if failed != 0 || calls == 0 {
		l.j.t.Errorf("%s: calls, failed: %s", what, said)
	}
	l.j.line(state, l.first, what, calls, failed)
	return calls
}

// line prints one of the matrix: protocol, framework, state, who moves first, what happens.
func (j *jvm) line(state, first, what string, calls, failed int) {
	framework, _, _ := strings.Cut(j.name, " ")
	fmt.Printf("matrix: %-5s | %-8s | %-16s | %s first | %-80s | calls %6d failed %d\n", protocols[framework], framework, state, first, what, calls, failed)
}

// sees waits until a reference has so many providers, of which each is a process.
func (j *jvm) sees(reference string, want int) {
	j.t.Helper()
	harness.Eventually(j.t, 30*time.Second, func() error {
		if n := j.do("entries %s", reference); n != fmt.Sprint(want) {
			return fmt.Errorf("%s has %s providers by %s, not %d", j.name, n, reference, want)
		}
		return nil
	})
}

// patience: a call that takes 2 s is waited for by who has the time, and given up, with the framework's own exception, by who has not. refers is the name
// of a reference and what it is made of.
func patience(t *testing.T, consumer *jvm, refers, who string) {
	t.Helper()
	reference, rest, _ := strings.Cut(refers, " ")
	consumer.do("timeout 500")
	consumer.do("refer hasty-%s %s", reference, rest)
	consumer.do("timeout 5000")
	if said := consumer.do("call %s slow", reference); said != who+":slow" {
		t.Errorf("a slow call by %s: %s", reference, said)
	}
	begun := time.Now()
	if said, err := consumer.try("call hasty-%s slow", reference); err == nil || !regexp.MustCompile(`SofaTimeOutException|TimeoutException|Invoke remote method timeout`).MatchString(err.Error()) {
		t.Errorf("a call by %s that is given up: %s, %v", reference, said, err)
	}
	if took := time.Since(begun); took > 1900*time.Millisecond {
		t.Errorf("a call by %s was given up after %s", reference, took)
	}
	consumer.calls("hasty-"+reference, who)
}

// TestMesh: with stock peers, each side direct or through a sidecar, and moving from the one to the other while calls are made.
func TestMesh(t *testing.T) {
	t.Log("feature: http bolt dubbo, either side moves to the mesh under load, and nothing fails")
	t.Run("matrix", matrix)
	t.Run("pages", pages)
}

func matrix(t *testing.T) {
	dir := stock().Prepare(t)
	versions(t, dir)
	b := newBoard(t)
	t.Run("sofarpc", func(t *testing.T) { b.t = t; sofarpc(t, b, dir) })
	t.Run("sofaboot", func(t *testing.T) { b.t = t; sofaboot(t, b, dir) })
	t.Run("dubbo3", func(t *testing.T) { b.t = t; dubbo(t, b, dir, "dubbo3") })
	t.Run("dubbo3-applications", func(t *testing.T) { b.t = t; byApplication(t, b, dir) })
	t.Run("gone", func(t *testing.T) {
		b.t = t
		gone(t, b, dir, "sofa", sofaProviders)
		gone(t, b, dir, "dubbo3", dubboProviders)
	})
	t.Run("http", func(t *testing.T) { b.t = t; plainHTTP(t, b) })
	t.Run("springzk", func(t *testing.T) { b.t = t; springByZookeeper(t, b, dir) })
	t.Run("nacos", func(t *testing.T) { nacos(t, dir) })
	t.Run("dubbo27", func(t *testing.T) { b.t = t; dubbo(t, b, dir, "dubbo27") })
}

// versions prints which libraries the peers are made of, as their files say.
func versions(t *testing.T, dir string) {
	for _, f := range frameworks {
		jars, err := filepath.Glob(filepath.Join(dir, f, "target", "dependency", "*.jar"))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, jar := range jars {
			if name := strings.TrimSuffix(filepath.Base(jar), ".jar"); library.MatchString(name) {
				all = append(all, name)
			}
		}
		if all == nil {
			t.Errorf("%s has no library of its framework", f)
		}
		fmt.Printf("matrix: %s is %s\n", f, strings.Join(all, ", "))
	}
	var node struct{ Dependencies map[string]string }
	text, err := os.ReadFile(filepath.Join(harness.Root(), nodePeers, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &node); err != nil || node.Dependencies["sofa-rpc-node"] == "" {
		t.Errorf("node has no library of its framework: %v", err)
	}
	fmt.Printf("matrix: node is sofa-rpc-node-%s\n", node.Dependencies["sofa-rpc-node"])
}

var library = regexp.MustCompile(`^(sofa-rpc-all|rpc-sofa-boot|dubbo|spring-boot|spring-cloud-openfeign-core|spring-cloud-alibaba-commons|nacos-client|zookeeper)-[0-9]`)

func port(address string) string {
	_, p, _ := strings.Cut(address, ":")
	return p
}
