package main

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The patterns.
const (
	saga = iota
	tcc
	message
)

var patterns = [...]string{"saga", "tcc", "message"}

const callTimeout = 3 * time.Second // of one call of a branch

// transfer is one of the plan.
type transfer struct {
	GID              string
	Pattern          int
	From, To, Amount int
	Parallel         bool // the steps of a saga
	Waits            bool // the initiator, for the end
	Refused          bool // by the receiver, or, of a message, by the sender
	Thinks           time.Duration
	// Meddling says of calls, by BRANCH.OP, what becomes of the first: HOW.MILLISECONDS, see service.
	Meddling map[string]string
}

// changesMind tells of a saga that its initiator aborts.
func (t *transfer) changesMind() bool { return t.Pattern == saga && !t.Waits && t.Amount%4 == 0 }

// hurries tells of a saga that has less time than one of its actions takes, which comes when all was rolled back for that.
func (t *transfer) hurries() bool { return t.Pattern == saga && t.Amount%8 == 3 }

// hurried is what becomes of that action, and how long the saga has.
func (t *transfer) hurried() (side, how, within string) {
	side = []string{"debit", "credit"}[t.Amount/8%2]
	return side, fmt.Sprint("late.", 3000+20*t.Amount), "2s"
}

// expected is why a transfer may well be aborted.
func (t *transfer) expected(r report) string {
	switch {
	case t.Refused:
		return "refused"
	case r.Died:
		return "initiator lost"
	case t.changesMind():
		return "taken back"
	case t.hurries():
		return "out of time"
	}
	return ""
}

// step is a transfer, and what is done just before it begins.
type step struct {
	transfer
	Arm    []string // points
	Kill   string   // a process
	Freeze string   // a process, or whoever comes to this point
}

// own are the points of the applications, which are here; those of sidecars are read.
var own = []string{
	"application.arrived", "application.read", "application.done", "application.worked",
	"initiator.saga.before", "initiator.saga.begun",
	"initiator.tcc.before", "initiator.tcc.begun", "initiator.tcc.registered", "initiator.tcc.decides", "initiator.tcc.committed", "initiator.tcc.aborted",
	"initiator.message.before", "initiator.message.prepared", "initiator.message.worked", "initiator.message.submitted", "initiator.message.aborted",
}

// readPoints are all that have to be reached. Those of another driver are left out.
func (b *bank) readPoints() (all []string, err error) {
	f, err := os.Open(b.options.points)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, _, _ := strings.Cut(lines.Text(), " ")
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		of, _, _ := strings.Cut(name, ".")
		if _, is := drivers[of]; is && of != b.driver {
			continue
		}
		all = append(append(all, name), b.serverPoints(name)...)
	}
	return append(all, own...), nil
}

// arm has whoever reaches a point next die there.
func arm(dir, point string) { _ = os.WriteFile(filepath.Join(dir, "armed", point), nil, 0o600) }

// hit is reached at a point of an application; see package failpoint.
func hit(dir, point string) {
	if os.Rename(filepath.Join(dir, "armed", point), filepath.Join(dir, "hit", point)) == nil {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// stopped is who was stopped at a point; 0: nobody yet.
func stopped(dir, point string) int {
	text, _ := os.ReadFile(filepath.Join(dir, "frozen", point))
	pid, _ := strconv.Atoi(string(text))
	return pid
}

func (b *bank) hits(point string) string { return filepath.Join(b.dir, "hit", point) }

func (b *bank) reached(point string) bool {
	_, err := os.Stat(b.hits(point))
	return err == nil
}

// schedule is what is done, and its hash: the same for the same seed and number.
func (b *bank) schedule() (all []step, hash string) {
	h := fnv.New64a()
	for i := range b.n {
		all = append(all, b.step(i))
	}
	rounds, rng := max(1, b.n/400), rand.New(rand.NewPCG(b.seed, 0))
	for r := range rounds {
		for k, p := range rng.Perm(len(b.points)) {
			at := (r*len(b.points) + k) * b.n * 6 / 10 / (rounds * len(b.points))
			all[at].Arm = append(all[at].Arm, b.points[p])
		}
	}
	for i := range all {
		fmt.Fprintf(h, "%+v\n", all[i])
	}
	return all, fmt.Sprintf("%016x", h.Sum64())
}

// step depends on the seed and on its place alone.
func (b *bank) step(i int) step {
	rng := rand.New(rand.NewPCG(b.seed, uint64(i)+1))
	s := step{transfer: transfer{GID: fmt.Sprintf("t%05d", i), Pattern: rng.IntN(3), From: rng.IntN(accounts), Amount: 1 + rng.IntN(300), Parallel: rng.IntN(3) == 0,
		Waits: rng.IntN(2) == 0, Refused: rng.IntN(8) == 0, Thinks: time.Duration(rng.IntN(50)) * time.Millisecond, Meddling: map[string]string{}}}
	s.To = (s.From + 1 + rng.IntN(accounts-1)) % accounts
	for range rng.IntN(3) {
		branch, op := []string{"debit", "credit"}[rng.IntN(2)], []string{"action", "action", "compensation", "try", "confirm", "cancel"}[rng.IntN(6)]
		how := []string{"twice", "echo", "late", "lost"}[rng.IntN(4)]
		s.Meddling[branch+"."+op] = fmt.Sprint(how, ".", 100+rng.IntN(8000))
	}
	if rng.IntN(20) == 0 {
		s.Kill = b.names[rng.IntN(len(b.names))]
	}
	if i%50 == 25 {
		all := slices.Concat(drivers[b.driver].stale, []string{"sidecar bank0", "sidecar bank1"})
		s.Freeze = all[rng.IntN(len(all))]
	}
	return s
}
