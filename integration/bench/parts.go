package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// free is a port that nobody listened on just now.
func free() (int, string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, "", err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, ln.Addr().String(), nil
}

// cache compares the sidecar's memory cache with the least that grpc-go can do.
func cache(o options) ([]row, error) {
	_, address, err := free()
	if err != nil {
		return nil, err
	}
	bare, err := role("serve", address)
	if err != nil {
		return nil, err
	}
	defer bare.end()
	s, err := startSidecar(o, "bench-cache", 0)
	if err != nil {
		return nil, err
	}
	defer s.end()
	return compare(o, []kind{
		{name: "cache-get-bare", target: address, call: "get", pids: []int{bare.pid()}},
		{name: "cache-get", target: s.grpc, call: "get", pids: []int{s.pid()}, against: "cache-get-bare"},
		{name: "cache-get-unix", target: s.socket, call: "get", pids: []int{s.pid()}, against: "cache-get-bare"},
		{name: "cache-set-bare", target: address, call: "set", pids: []int{bare.pid()}},
		{name: "cache-set", target: s.grpc, call: "set", pids: []int{s.pid()}, against: "cache-set-bare"},
	})
}

// invoke compares a call through two sidecars with one that is direct, and a hop of it with two other proxies.
func invoke(o options) ([]row, error) {
	port, address, err := free()
	if err != nil {
		return nil, err
	}
	_, naiveAddr, err := free()
	if err != nil {
		return nil, err
	}
	_, spliceAddr, err := free()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, r := range [][]string{{"serve", address}, {"naive", naiveAddr, address}, {"splice", spliceAddr, address}} {
		p, err := role(r[0], r[1:]...)
		if err != nil {
			return nil, err
		}
		defer p.end()
		pids = append(pids, p.pid())
	}
	callee, caller, err := startPair(o, "echo", port)
	if err != nil {
		return nil, err
	}
	defer callee.end()
	defer caller.end()
	return compare(o, []kind{
		{name: "invoke-direct", target: address, call: "echo", pids: pids[0:1]},
		{name: "invoke-splice", target: spliceAddr, call: "echo", pids: pids[2:3], against: "invoke-direct"},
		{name: "invoke-naive", target: naiveAddr, call: "echo", pids: pids[1:2], against: "invoke-direct"},
		{name: "invoke-two-sidecars", target: caller.grpc, call: "echo", pids: []int{callee.pid(), caller.pid()}, hops: 2, against: "invoke-direct"},
	})
}

// published waits until the callee's application was seen and announced.
func published(s *sidecar) error {
	for range 500 {
		res, err := http.Get("http://" + s.admin + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the callee is not ready")
}

// idle measures what the sidecar costs when it has nothing to do: with all drivers, and with those alone that need no server.
func idle(o options) ([]row, error) {
	rows, err := idleOf(o, "")
	if err != nil {
		return nil, err
	}
	embedded := filepath.Join(o.dir, "embedded")
	build := exec.Command("go", "build", "-tags", "embedded", "-trimpath", "-o", embedded, "./cmd/outrigger")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w %s", err, out)
	}
	o.binary = embedded
	more, err := idleOf(o, "-embedded")
	return append(rows, more...), err
}

func idleOf(o options, suffix string) ([]row, error) {
	stripped := filepath.Join(o.dir, "stripped")
	if out, err := exec.Command("strip", "-o", stripped, o.binary).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("strip: %w %s", err, out)
	}
	size, err := os.Stat(stripped)
	if err != nil {
		return nil, err
	}
	var ready, rss []float64
	for range max(o.rounds, 3) {
		s, err := startSidecar(o, "bench-idle", 0)
		if err != nil {
			return nil, err
		}
		time.Sleep(time.Second)
		held, err := resident(s.pid())
		s.end()
		if err != nil {
			return nil, err
		}
		ready, rss = append(ready, float64(s.ready.Microseconds())/1e3), append(rss, held)
	}
	slices.Sort(ready)
	slices.Sort(rss)
	return []row{
		{Name: "binary-stripped" + suffix, Value: float64(size.Size()) / 1e6, Unit: "MB"},
		{Name: "start-to-ready" + suffix, Value: ready[len(ready)/2], Unit: "ms"},
		{Name: "idle-rss" + suffix, Value: rss[len(rss)/2], Unit: "MiB"},
	}, nil
}

func resident(pid int) (mib float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20), err
}
