package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
)

// crowd are processes with one data folder, which may change places.
type crowd struct {
	t    *testing.T
	dir  string
	all  []*process
	past []*process
	made int
}

func newCrowd(t *testing.T, n int) *crowd {
	c := &crowd{t: t, dir: t.TempDir()}
	for range n {
		c.join()
	}
	return c
}

func (c *crowd) join() {
	p := spawn(c.t, c.dir, fmt.Sprintf("p%d", c.made))
	c.made++
	p.await(c.t, "ready", 0)
	c.all = append(c.all, p)
}

func (c *crowd) owner() *process {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		o, owned, err := store.OwnerOf(filepath.Join(c.dir, "store"))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, p := range c.all {
			if owned && p.Process.Pid == o.PID {
				return p
			}
		}
	}
	c.t.Fatal("no process owns the store")
	return nil
}

func (c *crowd) others(than *process) []*process {
	return slices.DeleteFunc(slices.Clone(c.all), func(p *process) bool { return p == than })
}

func (c *crowd) kill(p *process) {
	p.kill()
	c.all = c.others(p)
	c.past = append(c.past, p)
}

// settle ends all and finds what was acknowledged, and what was not known to be done, in the store.
func (c *crowd) settle() (acked int) {
	c.t.Helper()
	all := append(slices.Clone(c.past), c.all...)
	for _, p := range c.all {
		p.kill()
	}
	l := join(c.t, c.dir)
	ids := map[string]string{}
	for _, p := range all {
		for _, line := range p.said("acked", 0) {
			key, id := line[1], line[3]
			if other, twice := ids[id]; twice {
				c.t.Errorf("%s and %s were both given the id %s", other, key, id)
			}
			ids[id] = key
			acked++
			out, err := read.Call(c.t.Context(), l, entry{key})
			if err != nil || fmt.Sprint(out.ID) != id {
				c.t.Errorf("%s was acknowledged with the id %s; there is %d, %v", key, id, out.ID, err)
			}
		}
	}
	return acked
}

func TestAcknowledgedWritesSurviveTheirOwners(t *testing.T) {
	c := newCrowd(t, 3)
	var gaps []time.Duration
	for range 6 {
		o := c.owner()
		rest := c.others(o)
		for _, p := range rest {
			p.await(t, "acked", p.soFar())
		}
		from := make([]int, len(rest))
		c.kill(o)
		killed := time.Now()
		for i, p := range rest {
			from[i] = p.soFar()
		}
		for i, p := range rest {
			for line := p.await(t, "acked", from[i]); line[4] == fmt.Sprint(o.Process.Pid); from[i]++ {
				line = p.await(t, "acked", from[i])
			}
		}
		gaps = append(gaps, time.Since(killed).Round(time.Millisecond))
		c.join()
	}
	acked := c.settle()
	slices.Sort(gaps)
	t.Logf("acknowledged %d, all there; took over within %s", acked, gaps)
	for _, p := range append(c.past, c.all...) {
		for _, line := range p.said("refused", 0) {
			if line[3] != string(store.ReasonOutcomeUnknown) {
				t.Errorf("a call was refused: %v", line)
			}
		}
	}
}

func TestFrozenClientHoldsNobodyUp(t *testing.T) {
	c := newCrowd(t, 3)
	o := c.owner()
	frozen, other := c.others(o)[0], c.others(o)[1]
	frozen.await(t, "acked", 0)
	frozen.signal(t, syscall.SIGSTOP)
	from, owners := other.soFar(), o.soFar()
	time.Sleep(1500 * time.Millisecond)
	if n, m := len(other.said("acked", from)), len(o.said("acked", owners)); n < 5 || m < 5 {
		t.Errorf("while a client was frozen the others wrote %d and %d times", n, m)
	}
	if lines := other.said("refused", from); len(lines) > 0 {
		t.Errorf("others were refused: %v", lines)
	}
	woken := frozen.soFar()
	frozen.signal(t, syscall.SIGCONT)
	frozen.await(t, "acked", woken)
	c.settle()
}

func TestFrozenOwner(t *testing.T) {
	c := newCrowd(t, 3)
	o := c.owner()
	rest := c.others(o)
	for _, p := range rest {
		p.await(t, "acked", 0)
	}
	o.signal(t, syscall.SIGSTOP)
	var from []int
	for _, p := range rest {
		from = append(from, p.soFar())
	}
	time.Sleep(4 * time.Second)
	gaveUp := map[string]bool{}
	for i, p := range rest {
		lines := p.said("refused", from[i])
		if len(lines) < 10 {
			t.Fatalf("while the owner was frozen there were only %d refusals", len(lines))
		}
		for n, line := range lines {
			if took, _ := strconv.Atoi(line[2]); n > 2 && took > 100 {
				t.Errorf("a refusal took %d ms: %v", took, line)
			}
			if n > 2 && (line[3] != string(store.ReasonOwnerStuck) || !strings.Contains(line[4], fmt.Sprint(o.Process.Pid))) {
				t.Errorf("refused with %v", line)
			}
			if line[3] == string(store.ReasonOwnerStuck) {
				gaveUp[line[1]] = true
			}
		}
	}
	for i, p := range rest {
		from[i] = p.soFar()
	}
	o.signal(t, syscall.SIGCONT)
	for i, p := range rest {
		p.await(t, "acked", from[i])
	}
	c.settle()
	l := join(t, c.dir)
	for key := range gaveUp {
		if _, err := read.Call(t.Context(), l, entry{key}); err == nil {
			t.Errorf("%s was done though its caller had been told that the owner was stuck", key)
		}
	}
	t.Logf("%d calls were refused at once, and nothing of them was done later", len(gaveUp))
}

func TestFrozenOwnerThatIsKilledIsFollowed(t *testing.T) {
	c := newCrowd(t, 2)
	o := c.owner()
	rest := c.others(o)[0]
	rest.await(t, "acked", 0)
	o.signal(t, syscall.SIGSTOP)
	rest.await(t, "refused", rest.soFar())
	from := rest.soFar()
	c.kill(o)
	rest.await(t, "acked", from)
	c.settle()
}

func TestErrorsPassBetweenProcesses(t *testing.T) {
	c := newCrowd(t, 1)
	l := join(t, c.dir) // a client of the one there is
	_, err := fail.Call(t.Context(), l, entry{"a"})
	outer := (*components.Detail)(nil)
	if !errors.Is(err, components.ErrExhausted) || errors.Is(err, components.ErrUnavailable) || !errors.As(err, &outer) || outer.Metadata["operation"] != "3" {
		t.Fatalf("got %#v", err)
	}
	inner := (*components.Detail)(nil)
	if !errors.As(outer.Err, &inner) || inner.Reason != "TOO_MANY" || inner.Metadata["limit"] != "entries" || err.Error() != "adding: exhausted: too many" {
		t.Errorf("below it: %v", outer.Err)
	}
	if _, err := read.Call(t.Context(), l, entry{"absent"}); err != components.ErrNotFound {
		t.Errorf("what has no more to say: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := linger.Call(short, l, wait{time.Minute}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call whose time is over: %v", err)
	}
}

func TestStreamsBetweenProcesses(t *testing.T) {
	c := newCrowd(t, 1)
	l := join(t, c.dir)
	s, err := echo.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, key := range []string{"a", "bcd"} {
		if err := s.Send(entry{key}); err != nil {
			t.Fatal(err)
		}
		if out, err := s.Recv(); err != nil || out.ID != uint64(len(key)) || out.Owner != c.all[0].Process.Pid {
			t.Errorf("%q: %+v, %v", key, out, err)
		}
	}
	if err := s.Send(entry{"bad"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, components.ErrInvalid) {
		t.Errorf("its handler failed, and the stream with %v", err)
	}
	open, err := echo.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.Send(entry{"a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Recv(); err != nil {
		t.Fatal(err)
	}
	c.kill(c.all[0])
	if _, err := open.Recv(); reason(err) != string(store.ReasonOwnerLost) || !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("when the owner has gone: %v", err)
	}
	if out, err := add.Call(t.Context(), l, entry{"then"}); err != nil || out.Owner != os.Getpid() {
		t.Errorf("and then: %+v, %v", out, err)
	}
}

func TestOrderlyEndHandsOver(t *testing.T) {
	c := newCrowd(t, 1)
	first := join(t, t.TempDir()) // another store: two in one process
	if _, err := add.Call(t.Context(), first, entry{"elsewhere"}); err != nil {
		t.Fatal(err)
	}
	c.kill(c.all[0])
	owner := join(t, c.dir)
	p := spawn(t, c.dir, "follower")
	p.await(t, "acked", 0)
	from := p.soFar()
	owner.Close()
	for line := p.await(t, "acked", from); line[4] != fmt.Sprint(p.Process.Pid); from++ {
		line = p.await(t, "acked", from)
	}
	for _, line := range p.said("refused", 0) {
		t.Errorf("an orderly end refused %v", line)
	}
}

// TestCallUnderWayWhenTheConnectionIsClosed: it has begun, so it must not be taken for one that can be made again.
func TestCallUnderWayWhenTheConnectionIsClosed(t *testing.T) {
	dir := t.TempDir()
	join(t, dir)
	l := join(t, dir) // a client: nothing is shared
	ended := make(chan error, 1)
	go func() {
		_, err := linger.Call(t.Context(), l, wait{time.Minute})
		ended <- err
	}()
	<-lingers
	l.Close()
	if err := <-ended; reason(err) != string(store.ReasonOutcomeUnknown) {
		t.Errorf("%v, want that it is not known whether it was done", err)
	}
}
