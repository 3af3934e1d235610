// Command bench measures the sidecar against what limits it and against the peers at hand: a bare grpc-go server, a small
// transparent proxy made of grpc-go, and a TCP splice. All of them are processes of their own and run in turn, in rounds, so
// that what the machine does meanwhile hits all alike; what counts are ratios of medians within one run.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/servers"
)

func main() {
	if len(os.Args) > 1 {
		switch role := os.Args[1]; role {
		case "serve", "serve-http", "serve-bolt", "naive", "reverse", "splice", "load":
			if err := play(role, os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, "bench "+role+":", err)
				os.Exit(1)
			}
			return
		}
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each kind")
	flag.DurationVar(&o.length, "length", 2*time.Second, "of one measurement")
	flag.StringVar(&o.only, "only", "", "parts whose name has this: cache, state, lock, tx, tx-dtm, slow-disk, pubsub, pubsub-daprd, invoke, mesh, mesh-bolt, mesh-tls, mesh-directory, mesh-many, backends, idle")
	flag.StringVar(&o.binary, "binary", "bin/outrigger", "the sidecar")
	flag.StringVar(&o.out, "o", "bench.json", "where the rows go")
	flag.Float64Var(&o.slack, "gate", 0, "exit 1 when a target is missed by more than this factor, or that of its own; 0: only report")
	flag.BoolVar(&o.peers, "peers", false, "measure also against peers that are built first, daprd, and on real servers, which are installed: that takes some minutes once")
	flag.BoolVar(&o.traced, "traced", false, "its own: this process and those it starts sync slowly")
	flag.Parse()
	if o.peers && (o.traced || o.only != "" && (o.runs("tx-dtm") || o.runs("slow-disk"))) { // DTM listens on all interfaces
		if err := servers.Private(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds       int
	length       time.Duration
	only         string
	binary, out  string
	slack        float64
	peers        bool
	traced       bool
	dir          string
	concurrences []int
}

// runs says whether a part was asked for.
func (o options) runs(part string) bool { return strings.Contains(part, o.only) }

var parts = []struct {
	name string
	run  func(options) ([]row, error)
}{{"idle", idle}, {"cache", cache}, {"state", state}, {"lock", lock}, {"tx", tx}, {"tx-dtm", txDTM}, {"slow-disk", slowDisk}, {"pubsub", events}, {"pubsub-daprd", delivered}, {"invoke", invoke}, {"mesh", mesh}, {"mesh-bolt", meshBolt}, {"mesh-tls", meshTLS}, {"mesh-directory", meshDirectory}, {"mesh-many", meshMany}, {"backends", backends}}

func run(o options) error {
	var err error
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp("", "outrigger-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	var rows []row
	for _, part := range parts {
		if !o.runs(part.name) {
			continue
		}
		o.concurrences = []int{1, 16, 64}
		if o.slack > 0 {
			o.concurrences = judged(part.name, o)
		}
		r, err := part.run(o)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		rows = append(rows, r...)
	}
	if len(rows) == 0 {
		return fmt.Errorf("no part has %q in its name", o.only)
	}
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.out, append(text, '\n'), 0o644); err != nil {
		return err
	}
	if o.traced {
		return nil // who has started it prints and judges
	}
	printRows(rows)
	return judge(rows, o)
}

// row is one line of bench.json: medians over the rounds. CPU is that of the server, proxy or sidecars, for each call.
type row struct {
	Name    string  `json:"name"`
	C       int     `json:"c"`
	Ops     float64 `json:"ops"`
	P50     float64 `json:"p50_us"`
	P99     float64 `json:"p99_us"`
	CPU     float64 `json:"cpu_us"`
	CPULow  float64 `json:"cpu_low_us"` // the interval of the middle half of the rounds
	CPUHigh float64 `json:"cpu_high_us"`
	Ratio   float64 `json:"ratio"`   // of CPU to that of Against
	Against string  `json:"against"` // empty: nothing
	Value   float64 `json:"value,omitempty"`
	Unit    string  `json:"unit,omitempty"`
}

func printRows(rows []row) {
	fmt.Printf("%-22s %3s %9s %8s %8s %8s %15s %6s %s\n", "name", "c", "ops/s", "p50 us", "p99 us", "cpu us", "middle half", "ratio", "against")
	for _, r := range rows {
		if r.Unit != "" {
			fmt.Printf("%-22s     %9.1f %s\n", r.Name, r.Value, r.Unit)
			continue
		}
		ratio := ""
		if r.Against != "" {
			ratio = strconv.FormatFloat(r.Ratio, 'f', 2, 64)
		}
		fmt.Printf("%-22s %3d %9.0f %8.0f %8.0f %8.1f %7.1f-%-7.1f %6s %s\n", r.Name, r.C, r.Ops, r.P50, r.P99, r.CPU, r.CPULow, r.CPUHigh, ratio, r.Against)
	}
}
