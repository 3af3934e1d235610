package main

import (
	"errors"
	"fmt"
	"slices"
)

// target is a figure that is to be reached.
type target struct {
	part  string // that measures it
	what  string
	value func(find) (float64, bool)
	most  float64 // the value may be
	least float64 // or must be, if not 0
	time  bool    // or hangs on the disk: no slack makes it comparable between machines
	slack float64 // of a gate, where it needs less than others; 1: none
	peer  bool    // it takes what -peers alone builds and runs
	gate  bool    // or a gate, which needs that peer alone
}

// runs tells whether the peers that a target needs are there.
func (t *target) runs(o options) bool { return !t.peer || o.peers || t.gate && o.slack > 0 }

// find looks a row up.
type find func(name string, c int) (row, bool)

func lookup(rows []row) find {
	return func(name string, c int) (row, bool) {
		for _, r := range rows {
			if r.Name == name && r.C == c {
				return r, true
			}
		}
		return row{}, false
	}
}

// ratio divides a figure of one row by that of another.
func ratio(a, b string, c int, figure func(row) float64) func(find) (float64, bool) {
	return func(f find) (float64, bool) {
		x, okX := f(a, c)
		y, okY := f(b, c)
		return figure(x) / figure(y), okX && okY && figure(y) > 0
	}
}

// against is the ratio that a row has to what was measured beside it.
func against(name string, c int) func(find) (float64, bool) {
	return func(f find) (float64, bool) {
		r, ok := f(name, c)
		return r.Ratio, ok && r.Ratio > 0
	}
}

func plain(name string) func(find) (float64, bool) {
	return func(f find) (float64, bool) {
		r, ok := f(name, 0)
		return r.Value, ok
	}
}

// ofPossible is what calls that wait for the disk come to of what is possible: what its syncs let through, or as many calls as there are
// with no sync to wait for, whichever is less (ADR 22).
func ofPossible(share string, unsynced func(find) (float64, bool)) func(find) (float64, bool) {
	return func(f find) (float64, bool) {
		x, okX := plain(share)(f)
		y, okY := unsynced(f)
		return max(x, y), okX && okY
	}
}

func cpuOf(r row) float64 { return r.CPU }
func opsOf(r row) float64 { return r.Ops }

var targets = []target{
	{part: "cache", what: "cache get, CPU against the bare server, c=16", value: ratio("cache-get", "cache-get-bare", 16, cpuOf), most: 1.15},
	{part: "cache", what: "cache get, CPU against the bare server, c=64", value: ratio("cache-get", "cache-get-bare", 64, cpuOf), most: 1.15},
	{part: "invoke", what: "one hop, CPU against the bare echo server, c=16", value: ratio("invoke-two-sidecars", "invoke-direct", 16, cpuOf), most: 1.0},
	{part: "invoke", what: "one hop, CPU against the naive proxy, c=16", value: ratio("invoke-two-sidecars", "invoke-naive", 16, cpuOf), most: 0.45},
	{part: "invoke", what: "two hops, calls a second against direct, c=16", value: ratio("invoke-two-sidecars", "invoke-direct", 16, opsOf), least: 0.40},
	{part: "invoke", what: "two hops, calls a second against direct, c=64", value: ratio("invoke-two-sidecars", "invoke-direct", 64, opsOf), least: 0.50},
	{part: "invoke", what: "two hops, added p50 at c=1, us", value: func(f find) (float64, bool) {
		x, okX := f("invoke-two-sidecars", 1)
		y, okY := f("invoke-direct", 1)
		return x.P50 - y.P50, okX && okY
	}, most: 150, time: true},
	{part: "mesh", what: "HTTP/1.1, one hop, CPU against nginx, c=16", value: ratio("http-sidecar", "http-nginx", 16, cpuOf), most: 1.1, peer: true, gate: true},
	{part: "mesh", what: "the same of each round, lower end of its interval", value: plain("http-to-nginx-c16-low"), most: 1.1, slack: 1, peer: true, gate: true},
	{part: "mesh", what: "HTTP/1.1, one hop, CPU against httputil.ReverseProxy, c=16", value: ratio("http-sidecar", "http-reverse", 16, cpuOf), most: 0.5},
	{part: "mesh-bolt", what: "Bolt, one hop, CPU against MOSN, c=16", value: ratio("bolt-sidecar", "bolt-mosn", 16, cpuOf), most: 1.0, slack: 1, peer: true, gate: true},
	{part: "mesh-tls", what: "gRPC over mutual TLS, one hop, CPU against the bare echo server, c=16", value: ratio("grpc-mtls-two-sidecars", "grpc-direct", 16, cpuOf), most: 1.2, slack: 1},
	{part: "mesh-directory", what: "100,000 instances of 5,000 services, MB", value: plain("directory-100k"), most: 150, slack: 1, peer: true, gate: true},
	{part: "mesh-directory", what: "a decision among them, us more than among 10", value: plain("decision-added-by-100k"), most: 10, time: true, peer: true, gate: true},
	{part: "mesh-directory", what: "one change among them, us", value: plain("change-among-100k"), most: 1000, slack: 1, peer: true, gate: true},
	{part: "mesh-many", what: "p50 of a request among 100,000 instances to that among 10, lower end of its interval, c=1", value: plain("request-100k-of-one-p50-c1-low"), most: 1, time: true, peer: true, gate: true},
	{part: "mesh-many", what: "p50 of a request among 100,000 instances to that among 10, lower end of its interval, c=16", value: plain("request-100k-of-one-p50-c16-low"), most: 1, time: true, peer: true, gate: true},
	{part: "mesh-many", what: "the same for requests of all 5,000 services by chance, c=1", value: plain("request-100k-of-5k-p50-c1-low"), most: 1, time: true, peer: true, gate: true},
	{part: "mesh-many", what: "the same for requests of all 5,000 services by chance, c=16", value: plain("request-100k-of-5k-p50-c16-low"), most: 1, time: true, peer: true, gate: true},
	{part: "state", what: "state get, CPU against cache get, c=16", value: against("state-get", 16), most: 1.3},
	{part: "state", what: "state get, CPU against cache get, c=64", value: against("state-get", 64), most: 1.3},
	{part: "state", what: "state set (disk) against fsync/s x batch, c=64", value: plain("state-set-share-c64"), least: 0.7, time: true},
	{part: "state", what: "state set (disk) against fsync/s x batch, or those with os if that is less, c=64", value: ofPossible("state-set-share-c64", ratio("state-set-disk", "state-set-os", 64, opsOf)), least: 0.7},
	{part: "slow-disk", what: "slow disk: state set against fsync/s x batch, c=64", value: plain("state-set-slow-share-c64"), least: 0.7, slack: 1},
	{part: "slow-disk", what: "slow disk: sagas of 2 steps against fsync/s x batch, c=16", value: plain("tx-slow-share-c16"), least: 0.5},
	{part: "slow-disk", what: "slow disk: sagas by DTM against DTM's client, a second, c=1", value: ratio("tx-dtm-slow", "tx-dtm-direct-slow", 1, opsOf), least: 0.85, peer: true},
	{part: "slow-disk", what: "slow disk: sagas by DTM against DTM's client, a second, c=16", value: ratio("tx-dtm-slow", "tx-dtm-direct-slow", 16, opsOf), least: 0.85, peer: true},
	{part: "tx", what: "sagas of 2 steps (disk) against fsync/s x batch, c=16", value: plain("tx-disk-share-c16"), least: 0.5, time: true},
	{part: "tx", what: "sagas of 2 steps (disk) against fsync/s x batch, or those with os if that is less, c=16", value: ofPossible("tx-disk-share-c16", ratio("tx-disk", "tx-os", 16, opsOf)), least: 0.5},
	{part: "tx", what: "sagas of 2 steps (os) a second, c=16", value: func(f find) (float64, bool) {
		r, ok := f("tx-os", 16)
		return r.Ops, ok
	}, least: 1000, time: true},
	{part: "tx-dtm", what: "sagas of 2 steps by DTM against DTM's client, a second, c=1", value: ratio("tx-dtm", "tx-dtm-direct", 1, opsOf), least: 0.85, peer: true},
	{part: "tx-dtm", what: "sagas of 2 steps by DTM against DTM's client, a second, c=16", value: ratio("tx-dtm", "tx-dtm-direct", 16, opsOf), least: 0.85, peer: true},
	{part: "tx-dtm", what: "sagas of 2 steps by DTM on PostgreSQL against DTM's client, a second, c=1", value: ratio("tx-dtm-postgres", "tx-dtm-direct-postgres", 1, opsOf), least: 0.85, peer: true},
	{part: "tx-dtm", what: "sagas of 2 steps by DTM on PostgreSQL against DTM's client, a second, c=16", value: ratio("tx-dtm-postgres", "tx-dtm-direct-postgres", 16, opsOf), least: 0.85, peer: true},
	{part: "pubsub-daprd", what: "publish to delivery (os) against daprd, c=16", value: ratio("deliver-os", "deliver-daprd", 16, opsOf), least: 4, peer: true, gate: true},
	{part: "pubsub-daprd", what: "publish to delivery (os) against daprd, c=64", value: ratio("deliver-os", "deliver-daprd", 64, opsOf), least: 4, slack: 1, peer: true, gate: true},
	{part: "pubsub-daprd", what: "PublishMany to delivery (os) against daprd, c=16", value: ratio("deliver-os-many", "deliver-daprd", 16, opsOf), least: 10, peer: true, gate: true},
	{part: "pubsub-daprd", what: "PublishMany to delivery (os) against daprd, c=64", value: ratio("deliver-os-many", "deliver-daprd", 64, opsOf), least: 10, slack: 1, peer: true, gate: true},
	{part: "backends", what: "Redis get through the sidecar against its own cache, calls a second, c=64", value: ratio("redis-get", "cache-get", 64, opsOf), least: 0.8, peer: true},
	{part: "backends", what: "connections to Redis of a sidecar with 64 callers", value: plain("redis-clients"), most: 4, peer: true},
	{part: "backends", what: "commands that Redis gets with one read, c=64", value: plain("redis-commands"), least: 4, peer: true},
	{part: "backends", what: "Kafka publications, acknowledged by all replicas, against the client's, calls a second, c=64", value: ratio("kafka-publish", "kafka-publish-direct", 64, opsOf), least: 0.8, peer: true},
	{part: "idle", what: "start to ready, ms", value: plain("start-to-ready"), most: 100, time: true},
	{part: "idle", what: "idle RSS, MiB, with the drivers that need no server", value: plain("idle-rss-embedded"), most: 40},
	{part: "idle", what: "stripped binary, MB, with those", value: plain("binary-stripped-embedded"), most: 40},
	{part: "idle", what: "idle RSS, MiB, with all drivers", value: plain("idle-rss"), most: 48},
	{part: "idle", what: "stripped binary, MB, with all drivers", value: plain("binary-stripped"), most: 60},
	{part: "idle", what: "idle RSS, MiB, at the very most, with all drivers", value: plain("idle-rss"), most: 65, slack: 1},
	{part: "idle", what: "stripped binary, MB, at the very most, with all drivers", value: plain("binary-stripped"), most: 75, slack: 1},
}

// judged are the concurrences whose rows the targets of a part ask for, all that a gate has to measure; one of them if there is no target.
func judged(part string, o options) (all []int) {
	for _, t := range targets {
		if t.part == part && t.runs(o) {
			t.value(func(_ string, c int) (row, bool) {
				all = append(all, c)
				return row{}, true
			})
		}
	}
	all = slices.DeleteFunc(all, func(c int) bool { return c == 0 }) // of values, which have none
	if slices.Sort(all); len(all) == 0 {
		return []int{16}
	}
	return slices.Compact(all)
}

// judge prints how each target of the parts that ran was met. It fails if the rows of one are not there, and, if slack is not 0, if
// one is missed by more than that factor; times are printed only.
func judge(rows []row, o options) error {
	f := lookup(rows)
	var wrong []error
	for _, t := range targets {
		if !o.runs(t.part) || !t.runs(o) {
			continue
		}
		v, ok := t.value(f)
		if !ok {
			wrong = append(wrong, fmt.Errorf("%s: it was not measured", t.what))
			continue
		}
		slack := max(o.slack, 1)
		if t.slack != 0 {
			slack = min(slack, t.slack)
		}
		word, limit, met := "<=", t.most, v <= t.most
		beyond := v > t.most*slack
		if t.least != 0 {
			word, limit, met = ">=", t.least, v >= t.least
			beyond = v < t.least/slack
		}
		verdict := "reached"
		if !met {
			verdict = "MISSED"
		}
		fmt.Printf("target: %-52s %8.2f  wanted %s %.2f  %s\n", t.what, v, word, limit, verdict)
		if o.slack > 0 && beyond && !t.time {
			wrong = append(wrong, fmt.Errorf("%s: %.2f is not %s %.2f, even with a factor of %.2f", t.what, v, word, limit, slack))
		}
	}
	return errors.Join(wrong...)
}
