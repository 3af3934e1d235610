// Crash moves money between accounts of three services, in all three patterns, while it kills sidecars and applications with SIGKILL at
// named points and at random, freezes coordinators, and has calls of branches come twice, late or in vain. When all is at rest the program
// audit judges, and says how the run ends; this one ends with 2 if it could not run. It knows nothing of Outrigger but its binary, built with
// the tag failpoints, and its HTTP API.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/servers"
)

const (
	services   = 3
	accounts   = 100
	money      = 3000 // in each at the beginning: some will lack some
	percent    = 60   // of the transfers have to be committed
	initiators = 8
	coords     = 2               // sidecars of the initiators' application
	workers    = 3               // transfers that each initiator makes at once
	patience   = 5 * time.Minute // for all to come to rest
	lease      = 3 * time.Second
)

// options are the flags.
type options struct {
	binary, auditor, points, report, driver, keep string
	n                                             int
	seed                                          uint64
	barrier                                       bool

	role, listen, sidecars, dir string // of those that it starts
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/outrigger-failpoints", "the sidecar, built with the tag failpoints")
	flag.StringVar(&o.auditor, "audit", "bin/crash-audit", "the program that judges")
	flag.StringVar(&o.points, "points", "internal/failpoint/points.txt", "where sidecars are killed")
	flag.StringVar(&o.driver, "driver", "local", "the coordinator")
	flag.StringVar(&o.report, "report", "", "a file to write a report to")
	flag.StringVar(&o.keep, "keep", "", "a folder to run in, which is left with what the processes print; \"\": one that is removed")
	flag.IntVar(&o.n, "tx", 200, "transfers")
	flag.Uint64Var(&o.seed, "seed", 7, "of the schedule")
	flag.BoolVar(&o.barrier, "barrier", true, "have services use their barrier")
	flag.StringVar(&o.role, "role", "", "serve: be one of the services; initiate: make transfers when asked")
	flag.StringVar(&o.listen, "listen", "", "role: where")
	flag.StringVar(&o.sidecars, "sidecars", "", "role: the HTTP API of its sidecar, or of several")
	flag.StringVar(&o.dir, "dir", "", "role: where points are armed")
	flag.Parse()
	var handler http.Handler
	switch at := newAPI(strings.Split(o.sidecars, ",")...); o.role {
	case "serve":
		handler = &service{api: at, barrier: o.barrier, dir: o.dir, seen: map[string]bool{}}
	case "initiate":
		handler = &initiator{api: at, dir: o.dir}
	default:
		code, err := o.run()
		if err != nil {
			fmt.Fprintln(os.Stderr, "crash:", err)
			code = 2
		}
		os.Exit(code)
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(o.listen, handler))
	os.Exit(2)
}

// bank is the run.
type bank struct {
	options
	begun     time.Time
	processes map[string]*process
	names     []string // of these
	coord     *api
	states    [services]*api
	apps      [services]string
	initiator [initiators]string
	points    []string
	plan      []step
	hash      string
	server    *servers.Server // nil: the driver has none
	over      chan struct{}   // closed when all transfers were made
	meddling  sync.WaitGroup
	awaited   sync.Map // points at which somebody is to stop

	mu       sync.Mutex
	reported map[string]report
	frozen   int

	basing      sync.Mutex // held while the server's data base is being killed and started
	baseKills   int
	baseStrange []string
}

func (o options) run() (code int, err error) {
	switch d, ok := drivers[o.driver]; {
	case !ok:
		return 0, fmt.Errorf("there is no driver %q", o.driver)
	case d.start != nil: // a server may listen on all interfaces
		if err := servers.Private(); err != nil {
			return 0, err
		}
	}
	b := &bank{options: o, begun: time.Now(), processes: map[string]*process{}, reported: map[string]report{}, over: make(chan struct{})}
	if b.dir = o.keep; b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "crash"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(b.dir)
	}
	for _, d := range []string{"armed", "hit", "freeze", "frozen"} {
		if err := os.MkdirAll(filepath.Join(b.dir, d), 0o700); err != nil {
			return 0, err
		}
	}
	if b.points, err = b.readPoints(); err != nil {
		return 0, err
	}
	defer b.close()
	if err := b.start(); err != nil {
		return 0, err
	}
	b.plan, b.hash = b.schedule()
	b.play()
	b.rest()
	return b.audit()
}

// ends waits for the end of a transfer for a while, so that no more of them are under way than are coped with.
func (b *bank) ends(t transfer) {
	_ = eventually(callTimeout, func() error {
		out, err := b.coord.call(tx+"Get", object{"gid": t.GID})
		var r report
		if r.state(out); r.State == "" && code(err) != "not_found" {
			return errors.New("it has not ended")
		}
		return nil
	})
}

// play does what the plan says.
func (b *bank) play() {
	var working sync.WaitGroup
	work := make(chan transfer)
	for i := range initiators * workers {
		working.Go(func() {
			for t := range work {
				r := initiate(b.initiator[i%initiators], t)
				b.ends(t)
				b.mu.Lock()
				b.reported[t.GID] = r
				b.mu.Unlock()
			}
		})
	}
	for i := range b.plan {
		s := &b.plan[i]
		for _, point := range s.Arm {
			b.meddle(point)
		}
		if p := b.processes[s.Kill]; p != nil {
			p.kill()
		} else if s.Kill == base {
			b.meddling.Go(func() {
				_, start := b.killBase()
				start()
			})
		}
		if s.Freeze != "" {
			b.meddling.Go(func() {
				if b.freeze(s.Freeze) {
					b.mu.Lock()
					defer b.mu.Unlock()
					b.frozen++
				}
			})
		}
		work <- s.transfer
	}
	close(work)
	working.Wait()
	close(b.over)
	b.meddling.Wait()
}

func (b *bank) isOver() bool {
	select {
	case <-b.over:
		return true
	default:
		return false
	}
}
