package servers

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

func TestUnknown(t *testing.T) {
	if _, err := Start(t.Context(), "redsi", Options{}); err == nil || !strings.Contains(err.Error(), `unknown server "redsi" (have redis, redis-tls,`) {
		t.Error(err)
	}
}

func TestStartFails(t *testing.T) {
	left := watch(t)
	began := time.Now()
	_, err := Start(t.Context(), "redis", Options{Settings: []string{"maxmemory-policy nonsense"}})
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "maxmemory-policy nonsense") {
		t.Errorf("no end with the log of the server in: %v", err)
	}
	if waited, limit := time.Since(began), 20*time.Second; waited >= limit {
		t.Errorf("it waited %s for one that had ended", waited)
	}
	left.nothing(nil)
}

// A server at whose port another listens must not be taken for it.
func TestAnother(t *testing.T) {
	s := Run(t, "redis")
	other := s.Nodes[0]
	said := func(context.Context) (string, int, error) { return "1", 0, nil }
	n := script(t, s, "sleep 60", said)
	n.Addr = other.Addr
	if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "listens on port") {
		t.Errorf("it says %v", err)
	}
	if err := other.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("it says %v", err)
	}
}

// script is a node that is a shell.
func script(t *testing.T, s *Server, text string, ask func(context.Context) (string, int, error)) *Node {
	t.Helper()
	at, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.node("script", at, program{product: "script", args: []string{"sh", "-c", text}, ask: ask, limit: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	return n
}

// family is a shell with children, one in a session of its own as PostgreSQL's are.
func family(t *testing.T, text string) (*Node, []int) {
	t.Helper()
	n := script(t, &Server{Dir: t.TempDir()}, text, nil)
	if err := n.launch(); err != nil {
		t.Fatal(err)
	}
	all := []int{}
	if err := until(t.Context(), 20*time.Second, func(context.Context) error {
		if all = tree(n.cmd.Process.Pid); len(all) < 3 {
			return errors.New("it has not started them")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n, all
}

func states(pids []int) (all string) {
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			all += "-"
			continue
		}
		all += string(text[strings.LastIndexByte(string(text), ')')+2])
	}
	return all
}

func TestFamily(t *testing.T) {
	n, all := family(t, "sleep 600 & setsid sleep 600 & wait")
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	stopped := func(want bool) func(context.Context) error {
		return func(context.Context) error {
			if s := states(all); want != (s == "TTT") {
				return errors.New("they are " + s)
			}
			return nil
		}
	}
	if err := until(t.Context(), 5*time.Second, stopped(true)); err != nil {
		t.Errorf("frozen: %v", err)
	}
	if err := n.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := until(t.Context(), 5*time.Second, func(context.Context) error {
		if s := states(all); strings.Contains(s, "T") {
			return errors.New("they are " + s)
		}
		return nil
	}); err != nil {
		t.Errorf("thawed: %v", err)
	}
	if err := n.Kill(); err != nil {
		t.Error(err)
	}
	if s := states(all); strings.Trim(s, "-Z") != "" {
		t.Errorf("killed, they are %s", s)
	}
	for what, fails := range map[string]func() error{"freeze": n.Freeze, "thaw": n.Thaw} {
		if err := fails(); err == nil {
			t.Errorf("%s of one that does not run is no error", what)
		}
	}
}

// What does not end in order is killed, and that is told.
func TestStubborn(t *testing.T) {
	defer func(was time.Duration) { stopTime = was }(stopTime)
	stopTime = 200 * time.Millisecond
	n, all := family(t, "trap '' TERM; sleep 600 & sleep 600 & wait; wait; sleep 600")
	if err := n.Stop(); err == nil || !strings.Contains(err.Error(), "did not end within 200ms of terminated") {
		t.Errorf("it says %v", err)
	}
	if s := states(all); strings.Trim(s, "-Z") != "" {
		t.Errorf("they are %s", s)
	}
}

// Out of a network of its own, what listens everywhere does not start.
func TestWild(t *testing.T) {
	if os.Getenv(stay) != "" {
		for _, name := range []string{"nacos", "dtm"} {
			if s, err := Start(t.Context(), name, Options{}); err == nil || !strings.Contains(err.Error(), "listens on all interfaces") {
				t.Errorf("%s: %v %v", name, s, err)
			}
		}
		return
	}
	if outer() < 0 {
		t.Log("in the network that the tests were started in")
		t.Setenv(stay, "1")
		if isPrivate() {
			t.Skip("that has only a loopback itself")
		}
		TestWild(t)
		return
	}
	cmd := install.Command(t.Context(), ".", []string{stay + "=1", outerNet + "="}, os.Args[0], "-test.run=^TestWild$", "-test.v")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestWild") {
		t.Errorf("%v\n%s", err, out)
	}
}

// When the primary is killed the sentinels choose another, which has what was written, and the old one comes back as a replica.
func TestSentinels(t *testing.T) {
	s := Run(t, "redis-sentinel")
	store := sentinelStore(t, s)
	put(t, store, "before", "kill")
	old := s.Nodes[0]
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	see(t, store, "before", "kill")
	put(t, store, "after", "kill") // one replica is left to write to
	t.Logf("another after %s", time.Since(began).Round(time.Millisecond))
	if err := old.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.redisSays(t.Context(), old, "slave", "ROLE"); err != nil {
		t.Error(err)
	}
}
