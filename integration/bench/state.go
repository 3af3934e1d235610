package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
)

const stateConfig = `cache: {default: {driver: memory}}
registry: {default: {driver: file}}
state:
  default: {driver: local}
  os: {driver: local, options: {durability: os}}
`

func startState(o options) (*sidecar, error) {
	file := filepath.Join(o.dir, "state.yaml")
	if err := os.WriteFile(file, []byte(stateConfig), 0o600); err != nil {
		return nil, err
	}
	return startSidecar(o, "bench-state", 0, "-config", file)
}

// state compares reads with those of the memory cache, and sets, safe on the disk, with what the folder's disk can sync.
func state(o options) ([]row, error) {
	s, err := startState(o)
	if err != nil {
		return nil, err
	}
	defer s.end()
	rows, err := compare(o, []kind{
		{name: "cache-get", target: s.grpc, call: "get", pids: []int{s.pid()}},
		{name: "state-get", target: s.grpc, call: "state-get", pids: []int{s.pid()}, against: "cache-get"},
		{name: "state-set-os", target: s.grpc, call: "state-set-os", pids: []int{s.pid()}},
		{name: "state-set-disk", target: s.grpc, call: "state-set", pids: []int{s.pid()}, against: "state-set-os"},
	})
	if err != nil {
		return nil, err
	}
	const c = 64
	disk, err := onDisk(o, s.admin, &kind{name: "state-set", target: s.grpc, call: "state-set", pids: []int{s.pid()}}, c)
	return append(rows, disk...), err
}

// onDisk measures what waits for the disk. It takes the rate of syncs right before and after each round, since a disk's varies.
func onDisk(o options, admin string, k *kind, c int) ([]row, error) {
	var syncs, batch, shares []float64
	var samples []sample
	for range o.rounds {
		before, err := syncRate(o.dir)
		if err != nil {
			return nil, err
		}
		commits, updates, err := storeCounts(admin)
		if err != nil {
			return nil, err
		}
		one, err := measure(o, k, c)
		if err != nil {
			return nil, err
		}
		commitsNow, updatesNow, err := storeCounts(admin)
		if err != nil {
			return nil, err
		}
		after, err := syncRate(o.dir)
		if err != nil {
			return nil, err
		}
		rate, mean := (before+after)/2, (updatesNow-updates)/max(commitsNow-commits, 1)
		samples = append(samples, one)
		syncs, batch, shares = append(syncs, rate), append(batch, mean), append(shares, one.ops/(rate*mean))
	}
	at := fmt.Sprintf("-c%d", c)
	return []row{
		summary(k.name, c, samples),
		{Name: k.name + "-fsyncs" + at, Value: median(syncs), Unit: "raw fsync/s of the folder"},
		{Name: k.name + "-batch" + at, Value: median(batch), Unit: "updates that share one"},
		{Name: k.name + "-share" + at, Value: median(shares), Unit: "of fsync/s x batch"},
	}, nil
}

// syncRate is how often a second a file that grows by as much as a set brings can be synced.
func syncRate(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, payload)
	began, n := time.Now(), 0
	for ; time.Since(began) < 300*time.Millisecond; n++ {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// storeCounts reads how many updates the store has committed, in how many groups.
func storeCounts(admin string) (commits, updates float64, err error) {
	res, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		n, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case strings.HasPrefix(name, "outrigger_store_commits_total{"):
			commits = n
		case strings.HasPrefix(name, "outrigger_store_updates_total{"):
			updates = n
		}
	}
	return commits, updates, nil
}

var stateKeys atomic.Int64

// stateCaller makes the calls whose names begin with "state-".
func stateCaller(conn *grpc.ClientConn, call string, value []byte) (func() error, error) {
	items := statev1.NewStateClient(conn)
	in := &statev1.SetRequest{Key: "k" + strconv.FormatInt(stateKeys.Add(1), 10), Value: value}
	set := func() error {
		_, err := items.Set(context.Background(), in)
		return err
	}
	switch call {
	case "state-get":
		return func() error {
			out, err := items.Get(context.Background(), &statev1.GetRequest{Key: in.Key})
			if err == nil && len(out.GetValue()) != payload {
				err = fmt.Errorf("%d bytes", len(out.GetValue()))
			}
			return err
		}, set()
	case "state-set":
		return set, nil
	case "state-set-os":
		in.Component = "os"
		return set, nil
	}
	return nil, fmt.Errorf("unknown kind %q", call)
}
