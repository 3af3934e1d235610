package servers

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests start real servers. OUTRIGGER_SERVERS names them, with commas between, or is all; unless it is set those run that
// start in a few seconds. What is not chosen is printed.

func TestMain(m *testing.M) {
	if os.Getenv(stay) != "" {
		os.Exit(m.Run())
	}
	if err := Private(); err != nil {
		fmt.Println("in the network of the machine, where what listens on all interfaces does not start:", err)
	}
	os.Exit(m.Run())
}

// stay leaves a process of the tests in the network that it is started in.
const stay = "SERVERS_TEST_STAY"

// versions are what the servers must say that they are.
var versions = map[string]string{
	"redis": `7\.\d+\.\d+`, "redis-sentinel": `7\.\d+\.\d+`, "etcd": `3\.7\.3`, "postgres": `1[5-9]\.\d+`, "mariadb": `1[01]\.\d+\.\d+`, "kafka": `4\.4\.0`, "nacos": `2\.3\.1`,
	"nats": `2\.15\.2`, "rabbitmq": `[34]\.\d+\.\d+`, "zookeeper": `3\.9\.4`, "dtm": `v1\.19\.0`,
}

// quick are those that start in a few seconds, and need neither Java nor a long build the first time.
var quick = []string{"redis", "redis-tls", "redis-sentinel", "redis-cluster", "redis-cluster-replicas", "postgres", "mariadb", "nats"}

func chosen(t *testing.T) []Kind {
	t.Helper()
	names := quick
	if env := os.Getenv("OUTRIGGER_SERVERS"); env == "all" {
		names = nil
		for _, k := range Kinds() {
			names = append(names, k.Name)
		}
	} else if env != "" {
		names = strings.Split(env, ",")
	}
	run, not := []Kind{}, []string{}
	for _, k := range Kinds() {
		if slices.Contains(names, k.Name) {
			run = append(run, k)
		} else {
			not = append(not, k.Name)
		}
	}
	if len(run) != len(names) {
		t.Fatalf("OUTRIGGER_SERVERS=%s: unknown names among %v", os.Getenv("OUTRIGGER_SERVERS"), names)
	}
	if len(not) > 0 {
		fmt.Printf("servers not chosen: %s (OUTRIGGER_SERVERS=all chooses all)\n", strings.Join(not, ", "))
	}
	return run
}

func TestServers(t *testing.T) {
	for _, k := range chosen(t) {
		t.Run(k.Name, func(t *testing.T) { story(t, k) })
	}
}

// story is the life of a server: it must do all that tests of drivers will ask of it.
func story(t *testing.T, k Kind) {
	if err := Install(t.Context(), k.Name); err != nil {
		t.Fatal(err)
	}
	left := watch(t)
	lines := &bytes.Buffer{}
	began := time.Now()
	s, err := Start(t.Context(), k.Name, Options{Output: lines})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fmt.Print(lines.String())
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	checkLines(t, s, lines.String())
	for _, n := range s.Nodes {
		checkListens(t, k, n)
	}
	left.see(s)
	store := stores[k.Name](t, s)

	n := s.Nodes[0]
	put(t, store, "before", "kill")
	left.see(s)
	kill(t, n)
	begin(t, n)
	see(t, store, "before", "kill")
	checkListens(t, k, n)
	left.see(s)

	freeze(t, n)
	see(t, store, "before", "kill")

	put(t, store, "after", "thaw")
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
	checkDown(t, n)
	begin(t, n)
	see(t, store, "after", "thaw")
	left.see(s)

	if err := n.Freeze(); err != nil { // what is frozen must go as well
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	left.nothing(s)
}

var line = regexp.MustCompile(`^server (\S+) (\S+) pid (\d+)$`)

func checkLines(t *testing.T, s *Server, text string) {
	t.Helper()
	told := map[string]bool{}
	for l := range strings.Lines(text) {
		m := line.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
		if m == nil {
			t.Fatalf("no line of a server: %q", l)
		}
		if want, ok := versions[m[1]]; !ok || !regexp.MustCompile("^"+want+"$").MatchString(m[2]) {
			t.Errorf("%q: the version is not %s", l, want)
		}
		told[m[3]] = true
	}
	if len(told) != len(s.Addrs())+len(s.Addrs("sentinel")) {
		t.Errorf("%d processes have told of themselves: %s", len(told), text)
	}
}

// checkListens: what does not have a network of its own listens at 127.0.0.1 and nowhere else.
func checkListens(t *testing.T, k Kind, n *Node) {
	t.Helper()
	at := addresses(t, tree(n.cmd.Process.Pid))
	if len(at) == 0 {
		t.Fatalf("%s does not listen", n.Name)
	}
	for _, a := range at {
		const loopback4, loopback6, mapped = "0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"
		host, _, _ := strings.Cut(a, ":")
		if !k.Wild && host != loopback4 && host != loopback6 && host != mapped {
			t.Errorf("%s listens at %s", n.Name, a)
		}
	}
	if k.Wild && !isPrivate() {
		t.Errorf("%s runs in the network of the machine", k.Name)
	}
}

// addresses are where the processes listen, in the hexadecimal digits of /proc/net/tcp.
func addresses(t *testing.T, pids []int) (all []string) {
	t.Helper()
	open := map[string]bool{}
	for _, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if at, err := os.Readlink(fd); err == nil {
				open[at] = true
			}
		}
	}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(text)) {
			if c := strings.Fields(l); c[3] == "0A" && open["socket:["+c[9]+"]"] {
				all = append(all, c[1])
			}
		}
	}
	return all
}

func kill(t *testing.T, n *Node) {
	t.Helper()
	pid := n.PID()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("process %d of %s: %v", pid, n.Name, err)
	}
	checkDown(t, n)
}

// checkDown: its clients are refused, at once.
func checkDown(t *testing.T, n *Node) {
	t.Helper()
	if c, err := net.DialTimeout("tcp", n.Addr, time.Second); err == nil {
		c.Close()
		t.Errorf("%s is down and takes connections", n.Name)
	}
}

func begin(t *testing.T, n *Node) {
	t.Helper()
	began, was := time.Now(), n.PID()
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.PID() == was {
		t.Errorf("%s is process %d, as before", n.Name, was)
	}
	t.Logf("%s is back after %s", n.Name, time.Since(began).Round(time.Millisecond))
}

// freeze: a frozen one takes connections and does not answer; a thawed one does, and is the same process.
func freeze(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	c, err := net.DialTimeout("tcp", n.Addr, time.Second)
	if err != nil {
		t.Errorf("%s is frozen and takes no connections: %v", n.Name, err)
	} else {
		c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	if _, _, err := n.ask(ctx); err == nil {
		t.Errorf("%s is frozen and answers", n.Name)
	}
	cancel()
	if err := n.Thaw(); err != nil {
		t.Fatal(err)
	}
	pid := n.PID()
	if err := until(t.Context(), n.limit, n.ready); err != nil {
		t.Fatalf("%s after it was thawed: %v\n%s", n.Name, err, n.tail())
	}
	if n.PID() != pid {
		t.Errorf("%s was process %d and is %d", n.Name, pid, n.PID())
	}
}
