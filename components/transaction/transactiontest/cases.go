package transactiontest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

func chain(s *suite) transaction.Content { return s.saga(step("1"), step("2", "1"), step("3", "2")) }

func sagaOK(s *suite) {
	g := s.gid()
	if info := s.begin(g, chain(s)); info.State != transaction.Running {
		s.Errorf("it begins %s", info.State)
	}
	info := s.ends(g, transaction.Committed)
	s.want(g, "action 1", "action 2", "action 3")
	if len(info.Branches) != 3 || !info.Branches[2].Done || info.Ended.IsZero() {
		s.Errorf("%+v", info)
	}
}

func sagaFails(s *suite) {
	s.answers(func(c *transaction.Call) error {
		if c.Branch == "2" && c.Op == transaction.OpAction {
			return errNo
		}
		return nil
	})
	g := s.gid()
	s.begin(g, chain(s))
	if info := s.ends(g, transaction.Aborted); info.Failed != "2" || info.Reason == "" {
		s.Errorf("branch %q has failed because of %q", info.Failed, info.Reason)
	}
	s.want(g, "action 1", "action 2", "compensation 2", "compensation 1")
}

// whole begins a transaction and waits for its end, as somebody does who asks for both.
func (s *suite) whole(gid string, c transaction.Content, want transaction.State) transaction.Info {
	s.Helper()
	a, ok := s.driver.(transaction.Awaiter)
	if !ok {
		s.begin(gid, c)
		return s.ends(gid, want)
	}
	ctx, cancel := context.WithTimeout(s.Context(), s.Patience)
	defer cancel()
	info, err := a.BeginAndWait(ctx, app+gid, c)
	return s.come(gid, info, err, want)
}

// come is how a transaction ended, waiting for that if need be.
func (s *suite) come(gid string, info transaction.Info, err error, want transaction.State) transaction.Info {
	s.Helper()
	switch {
	case err != nil:
		s.Fatalf("%s: %v", gid, err)
	case !info.State.Final():
		return s.ends(gid, want)
	case info.State != want:
		s.Fatalf("%s ends %q, want %s", gid, info.State, want)
	}
	return info
}

// atOnce: whoever waits is answered the end, however that was come to.
func atOnce(s *suite) {
	g := s.gid()
	info := s.whole(g, chain(s), transaction.Committed)
	s.want(g, "action 1", "action 2", "action 3")
	if info.GID != app+g || info.Kind != transaction.Saga || len(info.Branches) != 3 || !info.Branches[2].Done || info.Branches[2].ID != "3" || info.Began.IsZero() || info.Ended.IsZero() {
		s.Errorf("%+v", info)
	}
	if again := s.whole(g, chain(s), transaction.Committed); !again.Branches[2].Done {
		s.Errorf("%+v", again)
	}
	s.want(g, "action 1", "action 2", "action 3")

	s.answers(func(c *transaction.Call) error {
		switch {
		case c.Branch == "2" && c.Op == transaction.OpAction:
			return errNo
		case c.Op == transaction.OpCompensation && c.Attempt == 1:
			return errAway
		}
		return nil
	})
	g = s.gid()
	if info := s.whole(g, s.saga(step("1"), step("2", "1")), transaction.Aborted); info.Failed != "2" || info.Reason == "" {
		s.Errorf("%+v", info)
	}

	s.answers(func(*transaction.Call) error { return nil })
	for _, g := range []string{s.tcc("1", "2"), s.message()} {
		a, ok := s.driver.(transaction.Awaiter)
		if !ok {
			s.decide(g, transaction.Commit)
			s.ends(g, transaction.Committed)
			continue
		}
		info, err := a.DecideAndWait(s.Context(), app+g, transaction.Commit)
		if info = s.come(g, info, err, transaction.Committed); len(info.Branches) != 2 || !info.Branches[0].Done {
			s.Errorf("%+v", info)
		}
		info, err = a.DecideAndWait(s.Context(), app+g, transaction.Commit)
		s.come(g, info, err, transaction.Committed)
		_, err = a.DecideAndWait(s.Context(), app+g, transaction.Abort)
		s.refused("abort after a commit", err, components.ErrPrecondition)
	}
}

// sagaConcurrent has both of a pair under way at once, and what comes after only then.
func sagaConcurrent(s *suite) {
	arrived := map[string]chan struct{}{"1": make(chan struct{}), "2": make(chan struct{})}
	var once [2]sync.Once
	s.answers(func(c *transaction.Call) error {
		for i, id := range []string{"1", "2"} {
			if c.Branch == id {
				once[i].Do(func() { close(arrived[id]) })
			}
		}
		for _, both := range arrived {
			select {
			case <-both:
			case <-time.After(s.Patience):
				return errAway
			}
		}
		return nil
	})
	g := s.gid()
	s.begin(g, s.saga(step("1"), step("2"), step("3", "1", "2")))
	s.ends(g, transaction.Committed)
	if said := s.said(g); len(said) != 3 || said[2] != "action 3" {
		s.Errorf("%q", said)
	}
}

// sagaUnknown calls again what did not answer, and what answered ABORTED without the reason.
func sagaUnknown(s *suite) {
	s.answers(func(c *transaction.Call) error {
		switch c.Attempt {
		case 1:
			return errAway
		case 2:
			return fmt.Errorf("%w: no reason", components.ErrAborted)
		}
		return nil
	})
	g := s.gid()
	s.begin(g, s.saga(step("1")))
	s.ends(g, transaction.Committed)
	s.want(g, "action 1", "action 1", "action 1")
}

func sagaTimeout(s *suite) {
	s.Policy.Timeout = s.Short
	s.answers(func(c *transaction.Call) error {
		if c.Op == transaction.OpAction && c.Branch == "2" {
			return errAway
		}
		return nil
	})
	g := s.gid()
	begun := time.Now()
	s.begin(g, chain(s))
	s.ends(g, transaction.Aborted)
	if took := time.Since(begun); took < s.Policy.Timeout {
		s.Errorf("it was rolled back after %s, before its timeout", took)
	}
	said := s.said(g)
	if n := len(said); n < 4 || said[n-2] != "compensation 2" || said[n-1] != "compensation 1" {
		s.Errorf("%q", said)
	}
}

// undo is called until it is OK, whatever it answers meanwhile.
func undo(s *suite) {
	s.answers(func(c *transaction.Call) error {
		switch {
		case c.Op == transaction.OpAction && c.Branch == "2":
			return errNo
		case c.Op == transaction.OpCompensation && c.Branch == "1" && c.Attempt == 1:
			return errAway
		case c.Op == transaction.OpCompensation && c.Branch == "1" && c.Attempt == 2:
			return errNo
		}
		return nil
	})
	g := s.gid()
	branches := chain(s).Branches
	branches[1].Undo = transaction.Target{}
	s.begin(g, s.saga(branches...))
	s.ends(g, transaction.Aborted)
	s.want(g, "action 1", "action 2", "compensation 1", "compensation 1", "compensation 1")
}

// call is whole.
func call(s *suite) {
	g := s.gid()
	s.begin(g, s.saga(step("1")))
	s.ends(g, transaction.Committed)
	s.traced()
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	c, want := s.log.calls[0], target("do 1")
	if t := c.Target; c.GID != app+g || c.Kind != transaction.Saga || c.Attempt != 1 || t.Service != want.Service || t.Method != want.Method ||
		string(t.Data) != string(want.Data) || t.ContentType != want.ContentType || t.Metadata["k"] != "v" {
		s.Errorf("%+v", c)
	}
}

func same(s *suite) {
	g := s.gid()
	s.begin(g, chain(s))
	s.begin(g, chain(s))
	reloaded := chain(s)
	reloaded.Policy.CallTimeout++ // the component's by now; who begins it has said nothing of that
	s.begin(g, reloaded)
	s.ends(g, transaction.Committed)
	if info := s.begin(g, chain(s)); info.State != transaction.Committed {
		s.Errorf("the same again is %s", info.State)
	}
	time.Sleep(s.Calm)
	s.want(g, "action 1", "action 2", "action 3")
}

func other(s *suite) {
	g := s.gid()
	s.begin(g, chain(s))
	_, err := s.driver.Begin(s.Context(), app+g, s.saga(step("1")))
	s.refused("begin another", err, components.ErrExists)
	branches := chain(s).Branches
	branches[2].Do.Data = []byte("other data")
	_, err = s.driver.Begin(s.Context(), app+g, s.saga(branches...))
	s.refused("begin with other data", err, components.ErrExists)
	hurried := chain(s)
	hurried.Policy.CallTimeout--
	hurried.Said.CallTimeout = hurried.Policy.CallTimeout
	_, err = s.driver.Begin(s.Context(), app+g, hurried)
	s.refused("begin with another policy", err, components.ErrExists)
}

func absent(s *suite) {
	ctx := s.Context()
	_, err := s.driver.Get(ctx, app+"none")
	s.refused("get", err, components.ErrNotFound)
	_, err = s.driver.Wait(ctx, app+"none")
	s.refused("wait", err, components.ErrNotFound)
	for _, d := range []transaction.Decision{transaction.Commit, transaction.Abort, transaction.Retry, transaction.GiveUp} {
		_, err = s.driver.Decide(ctx, app+"none", d)
		s.refused(string(d), err, components.ErrNotFound)
	}
	s.refused("register", s.driver.Register(ctx, app+"none", step("1")), components.ErrNotFound)
}

func abortSaga(s *suite) {
	s.answers(func(c *transaction.Call) error {
		if c.Op == transaction.OpAction && c.Branch == "2" {
			return errAway
		}
		return nil
	})
	g := s.gid()
	s.begin(g, s.saga(step("1"), step("2", "1")))
	s.until(g, 2)
	s.decide(g, transaction.Abort)
	s.ends(g, transaction.Aborted)
	s.decide(g, transaction.Abort)
	said := s.said(g)
	if n := len(said); n < 4 || said[n-2] != "compensation 2" || said[n-1] != "compensation 1" {
		s.Errorf("%q", said)
	}
}
