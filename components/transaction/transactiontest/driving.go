package transactiontest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// retry does not wait for the next attempt.
func retry(s *suite) {
	var well atomic.Bool
	s.answers(func(*transaction.Call) error {
		if well.Load() {
			return nil
		}
		return errAway
	})
	g := s.gid()
	c := s.saga(step("1"))
	c.Policy.FirstPause, c.Policy.LongPause, c.Policy.Timeout = time.Hour, time.Hour, 24*time.Hour
	s.begin(g, c)
	s.until(g, 1)
	time.Sleep(s.Calm)
	info := s.is(g, transaction.Running)
	if b := info.Branches[0]; b.Attempts != 1 || b.Pause < time.Minute || b.Last == "" || b.Op != transaction.OpAction {
		s.Errorf("%+v", b)
	}
	well.Store(true)
	s.decide(g, transaction.Retry)
	s.ends(g, transaction.Committed)
	s.want(g, "action 1", "action 1")
	_, err := s.driver.Decide(s.Context(), app+g, transaction.Retry)
	s.refused("retry at the end", err, components.ErrPrecondition)
}

func giveUp(s *suite) {
	s.answers(func(*transaction.Call) error { return errAway })
	g := s.gid()
	s.begin(g, s.saga(step("1")))
	s.until(g, 1)
	s.decide(g, transaction.GiveUp)
	s.ends(g, transaction.GivenUp)
	time.Sleep(s.Calm)
	n := len(s.said(g))
	time.Sleep(s.Calm)
	if more := len(s.said(g)); more > n {
		s.Errorf("%d calls, and %d after it was given up", n, more-n)
	}
}

func list(s *suite) {
	var gids []string
	for range 5 {
		gids = append(gids, s.gid())
		s.begin(gids[len(gids)-1], s.saga(step("1")))
	}
	for _, g := range gids {
		s.ends(g, transaction.Committed)
	}
	open := s.tcc()
	var got []string
	q := transaction.Query{Application: app, Limit: 2}
	for more := true; more; {
		var page []transaction.Info
		var err error
		if page, more, err = s.driver.List(s.Context(), q); err != nil || len(page) > 2 {
			s.Fatalf("%d, %v", len(page), err)
		}
		for _, info := range page {
			got = append(got, info.GID)
			q.After = info.GID[len(app):]
		}
	}
	if want := fmt.Sprint(app+gids[0], app+gids[1], app+gids[2], app+gids[3], app+gids[4], app+open); fmt.Sprint(got[0], got[1], got[2], got[3], got[4], got[5]) != want {
		s.Errorf("%q", got)
	}
	some, _, err := s.driver.List(s.Context(), transaction.Query{Application: app, Limit: 10, States: []transaction.State{transaction.Prepared}})
	if err != nil || len(some) != 1 || some[0].GID != app+open || some[0].Kind != transaction.TCC {
		s.Errorf("%+v, %v", some, err)
	}
	some, _, err = s.driver.List(s.Context(), transaction.Query{Application: app, Limit: 10, OlderThan: time.Hour})
	if err != nil || len(some) != 0 {
		s.Errorf("%+v, %v", some, err)
	}
}

// restart goes on with what was left.
func restart(s *suite) {
	d := s.Open()
	stop := s.drive(d, "shop/other/") // it is there, and drives others'
	g := s.gid()
	s.answers(func(*transaction.Call) error { return errAway })
	s.begin(g, s.saga(step("1")))
	s.until(g, 1)
	stop()
	s.answers(func(*transaction.Call) error { return nil })
	s.drive(d, app)
	s.ends(g, transaction.Committed)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), s.Patience)
	defer cancel()
	if c, ok := d.(components.Closer); ok {
		s.Cleanup(func() { _ = c.Close(ctx) })
	}
}

// leaves: when who drives goes, another one goes on, and nothing is done at once by both.
func leaves(s *suite) {
	second := s.open()
	third := s.open()
	s.answers(func(c *transaction.Call) error {
		if c.Op == transaction.OpAction && c.Attempt < 3 {
			return errAway
		}
		return nil
	})
	stop := s.drive(second, app)
	var gids []string
	for range 6 {
		g := s.gid()
		if _, err := second.Begin(s.Context(), app+g, chain(s)); err != nil {
			s.Fatal(err)
		}
		gids = append(gids, g)
	}
	s.until(gids[0], 1)
	stop()
	s.drive(third, app)
	for _, g := range gids {
		s.ends(g, transaction.Committed)
	}
	s.traced()
}

// one at a time drives a transaction, however many there are.
func one(s *suite) {
	for range 3 {
		s.drive(s.open(), app)
	}
	var mu sync.Mutex
	at := map[string]bool{}
	s.answers(func(c *transaction.Call) error {
		mu.Lock()
		if at[c.GID] {
			s.Errorf("%s is called by two at once", c.GID)
		}
		at[c.GID] = true
		mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		at[c.GID] = false
		return nil
	})
	var gids []string
	for range 20 {
		gids = append(gids, s.gid())
		s.begin(gids[len(gids)-1], chain(s))
	}
	for _, g := range gids {
		s.ends(g, transaction.Committed)
		s.want(g, "action 1", "action 2", "action 3")
	}
}

// applications are driven by their own sidecars only.
func applications(s *suite) {
	key := "shop/others/g1"
	if _, err := s.driver.Begin(s.Context(), key, chain(s)); err != nil {
		s.Fatal(err)
	}
	time.Sleep(s.Calm)
	s.log.mu.Lock()
	n := len(s.log.calls)
	s.log.mu.Unlock()
	if n > 0 {
		s.Fatalf("%d calls by a sidecar of another application", n)
	}
	all, _, err := s.driver.List(s.Context(), transaction.Query{Application: app, Limit: 10})
	if err != nil || len(all) != 0 {
		s.Errorf("%+v, %v", all, err)
	}
	s.drive(s.open(), "shop/others/")
	ctx, cancel := context.WithTimeout(s.Context(), s.Patience)
	defer cancel()
	if info, err := s.driver.Wait(ctx, key); err != nil || info.State != transaction.Committed {
		s.Errorf("%+v, %v", info, err)
	}
}
