//go:build !race

package all_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/state"
	states "github.com/outrigger-mesh/outrigger/components/state/local"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	transactions "github.com/outrigger-mesh/outrigger/components/transaction/local"
)

// A bank of a few accounts over three services, in a bubble of time: transfers in all three patterns, while sidecars end and come back, the
// power goes, and calls are lost, repeated and late. At rest no money may have come or gone, and each transfer is whole or was never.

const (
	bankApp   = "shop/bank/"
	accounts  = 6 // two at each service
	begun     = 100
	transfers = 8
)

// guards are what the bank relies on, each of which can be left out.
type guards struct {
	barrier    bool
	durability string // of the transactions
}

// bank is one schedule.
type bank struct {
	t      *testing.T
	guards guards
	begin  time.Time
	late   sync.WaitGroup // calls that go on after their callers have gone

	mu      sync.Mutex
	rng     *rand.Rand
	fs      *vfs.MemFS
	d       *db.DB
	link    *store.Link
	state   state.Driver
	drivers [2]transaction.Driver // of two sidecars of the application
	stop    [2]context.CancelFunc
	over    [2]chan struct{}
	power   int  // counts its losses
	off     bool // until the store is open again
	logged  int
	all     map[string]string // what each gid is, for people
}

func (b *bank) n(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rng.IntN(n)
}

func (b *bank) chance(percent int) bool { return b.n(100) < percent }

func (b *bank) pause(most time.Duration) { time.Sleep(time.Duration(b.n(int(most)))) }

// boot opens the store as it is on the disk.
func (b *bank) boot() {
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	clock := db.Clock{Boot: "boot", Uptime: func() time.Duration { return time.Since(b.begin) }, Wall: time.Now}
	var err error
	if b.d, err = db.Open(db.Options{Dir: "store", FS: b.fs, Clock: clock, Logger: log}); err != nil {
		b.t.Fatal(err)
	}
	env := components.Env{ID: components.ID{Name: "default"}, DataDir: "/", Logger: log, Shared: components.NewShared()}
	if b.link, err = store.Lend(ctx, env, b.d); err != nil {
		b.t.Fatal(err)
	}
	if b.state, err = states.Open(ctx, env, states.Options{Durability: "disk", Idempotency: time.Hour, Barriers: 24 * time.Hour}); err != nil {
		b.t.Fatal(err)
	}
	for i := range b.drivers {
		o := transactions.Options{Durability: b.guards.durability, Timeout: 20 * time.Second, CallTimeout: 3 * time.Second, FirstPause: 50 * time.Millisecond,
			LongPause: 2 * time.Second, Lease: 2 * time.Second, Concurrency: 100, MaxUnfinished: 1000, Retention: time.Hour}
		if b.drivers[i], err = transactions.Open(ctx, env, o); err != nil {
			b.t.Fatal(err)
		}
		b.drive(i)
	}
}

// drive has a sidecar drive.
func (b *bank) drive(i int) {
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	b.stop[i], b.over[i] = stop, over
	d, power := b.drivers[i], b.losses()
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			_ = d.Drive(ctx, bankApp, func(ctx context.Context, c *transaction.Call) error {
				if b.losses() != power { // what this one knows may never have been
					return errLost
				}
				return b.call(ctx, c)
			})
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
}

func (b *bank) losses() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.power
}

// powered does something whose answer does not count if the power went meanwhile.
func (b *bank) powered(do func() error) error {
	b.mu.Lock()
	before, off := b.power, b.off
	b.mu.Unlock()
	if off {
		return errLost
	}
	err := do()
	if b.losses() != before {
		return errLost
	}
	return err
}

// shut ends all that is on the store.
func (b *bank) shut() {
	for i := range b.drivers {
		b.stop[i]()
	}
	for i := range b.drivers {
		<-b.over[i]
		_ = b.drivers[i].(components.Closer).Close(context.Background())
	}
	_ = b.state.(components.Closer).Close(context.Background())
	b.link.Close()
	_ = b.d.Close()
}

// cut is a loss of power. What was not synced is there or not, block by block.
func (b *bank) cut() {
	b.mu.Lock()
	after := b.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: b.rng.IntN(100), RNG: b.rng})
	b.power++
	b.off = true
	b.mu.Unlock()
	b.shut()
	b.mu.Lock()
	b.fs = after
	b.mu.Unlock()
	b.boot()
	b.mu.Lock()
	b.off = false
	b.mu.Unlock()
}

var errLost = errors.New("lost")

// call is how branches are reached: not reliably.
func (b *bank) call(ctx context.Context, c *transaction.Call) error {
	serve := func() error { return b.powered(func() error { return b.serve(c) }) }
	switch {
	case b.chance(5):
		return errLost
	case b.chance(10): // it comes later than its caller waits for it
		b.after(30*time.Second, serve)
		return errLost
	case b.chance(10): // it comes twice
		b.after(30*time.Second, serve)
	}
	b.pause(300 * time.Millisecond)
	err := serve()
	if b.chance(10) {
		return errLost
	}
	if err != nil && !transaction.HasFailed(err) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (b *bank) after(most time.Duration, serve func() error) {
	wait := time.Duration(b.n(int(most)))
	b.late.Go(func() {
		time.Sleep(wait)
		_ = serve()
	})
}

// transfer begins one, and may be killed at any step of that.
func (b *bank) transfer(gid string) (reported transaction.State) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	from, to, amount := b.n(accounts), b.n(accounts), 1+b.n(80)
	if from == to {
		to = (from + 1) % accounts
	}
	target := func(account, amount int) transaction.Target {
		return transaction.Target{Service: "s", Method: fmt.Sprintf("%d %d", account, amount)}
	}
	debit, credit := transaction.Branch{ID: "1", Do: target(from, -amount), Undo: target(from, -amount)}, transaction.Branch{ID: "2", Do: target(to, amount), Undo: target(to, amount)}
	policy := b.drivers[0].Defaults()
	kind := b.n(3)
	b.mu.Lock()
	b.all[gid] = fmt.Sprintf("%d of %d to %d, pattern %d", amount, from, to, kind)
	b.mu.Unlock()
	d := func() transaction.Driver { return b.drivers[b.n(2)] }
	switch key := bankApp + gid; kind {
	case 0:
		if b.chance(70) {
			credit.After = []string{"1"}
		}
		if !b.sure(func() error {
			_, err := d().Begin(ctx, key, transaction.Content{Kind: transaction.Saga, Policy: policy, Branches: []transaction.Branch{debit, credit}})
			return err
		}) {
			return ""
		}
	case 1:
		if !b.sure(func() error {
			_, err := d().Begin(ctx, key, transaction.Content{Kind: transaction.TCC, Policy: policy})
			return err
		}) {
			return ""
		}
		decision := transaction.Commit
		debit.Confirm = target(from, 0)
		credit.Do, credit.Confirm, credit.Undo = transaction.Target{}, target(to, amount), target(to, 0)
		for _, branch := range []transaction.Branch{debit, credit} {
			if !b.sure(func() error { return d().Register(ctx, key, branch) }) {
				return ""
			}
			if branch.Do.IsZero() {
				continue
			}
			err := b.call(ctx, &transaction.Call{GID: key, Kind: transaction.TCC, Branch: branch.ID, Op: transaction.OpTry, Target: branch.Do})
			if err == nil {
				err = b.powered(func() error { return d().Tried(ctx, key, branch.ID) })
			}
			if err != nil {
				decision = transaction.Abort
			}
		}
		if b.chance(10) || !b.sure(func() error { _, err := d().Decide(ctx, key, decision); return err }) {
			return ""
		}
	case 2:
		credit.Undo = transaction.Target{}
		if !b.sure(func() error {
			_, err := d().Begin(ctx, key, transaction.Content{Kind: transaction.Message, Policy: policy, Branches: []transaction.Branch{credit}, Check: target(from, 0)})
			return err
		}) {
			return ""
		}
		b.pause(30 * time.Second) // it may be asked meanwhile
		if b.powered(func() error { return b.sendersWork(gid, from, amount) }) != nil || b.chance(30) {
			return ""
		}
		if !b.sure(func() error { _, err := d().Decide(ctx, key, transaction.Commit); return err }) {
			return ""
		}
	}
	var info transaction.Info
	err := b.powered(func() (err error) {
		info, err = d().Wait(ctx, bankApp+gid)
		return err
	})
	if err != nil {
		return ""
	}
	return info.State
}

// sendersWork takes the money and notes that, in one step.
func (b *bank) sendersWork(gid string, from, amount int) error {
	ctx, service := context.Background(), fmt.Sprintf("shop/s%d/", from%3)
	for {
		there, err := b.state.Get(ctx, service+strconv.Itoa(from))
		if err != nil {
			return err
		}
		balance, _ := strconv.Atoi(string(there.Value))
		if balance < amount {
			return errLack
		}
		_, err = b.state.Transact(ctx, state.Transaction{Operations: []state.Operation{
			{Kind: state.Set, Key: service + strconv.Itoa(from), Item: state.Item{Value: []byte(strconv.Itoa(balance - amount))}, Condition: state.Condition{IfVersion: there.Version}},
			{Kind: state.Set, Key: fmt.Sprintf("%slog %s work %d 0", service, gid, -amount)},
			{Kind: state.Set, Key: "shop/bank/sent " + gid, Item: state.Item{Value: []byte("yes")}, Condition: state.Condition{IfAbsent: true}}}})
		if !errors.Is(err, components.ErrConflict) {
			return err
		}
	}
}

// sure tries for a while what may fail because the power has gone; false: the application is killed then.
func (b *bank) sure(do func() error) bool {
	for range 20 {
		if b.chance(3) {
			return false
		}
		if err := b.powered(do); err == nil {
			return true
		} else if errors.Is(err, components.ErrPrecondition) {
			return false
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

// run is one schedule. It answers what is wrong at rest.
func (b *bank) run() (faults []string) {
	b.begin = time.Now()
	b.fs = vfs.NewCrashableMem()
	b.all = map[string]string{}
	b.boot()
	for i := range accounts {
		_, err := b.state.Transact(context.Background(), state.Transaction{Operations: []state.Operation{{Kind: state.Set, Key: fmt.Sprintf("shop/s%d/%d", i%3, i), Item: state.Item{Value: []byte(strconv.Itoa(begun))}}}})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	reported := map[string]transaction.State{}
	var mu, life sync.Mutex
	var work sync.WaitGroup
	for i := range transfers {
		work.Go(func() {
			gid := "t" + strconv.Itoa(i)
			b.pause(10 * time.Second)
			s := b.transfer(gid)
			mu.Lock()
			defer mu.Unlock()
			reported[gid] = s
		})
	}
	faulty, end := context.WithCancel(context.Background())
	var trouble sync.WaitGroup
	trouble.Go(func() {
		for range 6 {
			b.pause(8 * time.Second)
			if faulty.Err() != nil {
				return
			}
			life.Lock()
			if b.chance(40) {
				b.cut()
			} else {
				i := b.n(2)
				b.stop[i]()
				<-b.over[i]
				b.pause(3 * time.Second)
				b.drive(i)
			}
			life.Unlock()
		}
	})
	work.Wait()
	end()
	trouble.Wait()
	b.late.Wait()
	faults = b.settle(reported)
	b.late.Wait()
	faults = append(faults, b.audit(reported)...)
	b.shut()
	return faults
}

func schedule(t *testing.T, seed uint64, g guards) (faults []string) {
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &bank{t: t, guards: g, rng: rand.New(rand.NewPCG(seed, 7))}
			faults = b.run()
		})
	})
	return faults
}

// schedules is how many are tried; SCHEDULES=n has n.
func schedules(t *testing.T, n int) (from, to uint64) {
	from, to = 1, uint64(n)
	if text := os.Getenv("SCHEDULES"); text != "" {
		k, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		to = uint64(k)
	}
	return from, to
}

// TestBank has no transfer doubled, half or unfinished, and no money lost.
func TestBank(t *testing.T) {
	from, to := schedules(t, 40)
	for seed := from; seed <= to; seed++ {
		if faults := schedule(t, seed, guards{barrier: true, durability: "disk"}); len(faults) > 0 {
			t.Errorf("schedule %d: %s", seed, strings.Join(faults, "\n\t"))
		}
	}
}

// TestBankWithoutGuards shows that TestBank would notice.
func TestBankWithoutGuards(t *testing.T) {
	for name, g := range map[string]guards{"barrier": {false, "disk"}, "sync": {true, "os"}} {
		caught := 0
		for seed := uint64(1); seed <= 60 && caught == 0; seed++ {
			if faults := schedule(t, seed, g); len(faults) > 0 {
				caught++
				t.Logf("without the %s, schedule %d: %s", name, seed, faults[0])
			}
		}
		if caught == 0 {
			t.Errorf("without the %s nothing is wrong", name)
		}
	}
}
