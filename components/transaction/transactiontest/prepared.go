package transactiontest

import (
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

func (s *suite) tcc(ids ...string) (gid string) {
	s.Helper()
	gid = s.gid()
	if info := s.begin(gid, transaction.Content{Kind: transaction.TCC, Policy: s.Policy}); info.State != transaction.Prepared {
		s.Errorf("it begins %s", info.State)
	}
	for _, id := range ids {
		s.register(gid, id)
		if err := s.driver.Tried(s.Context(), app+gid, id); err != nil {
			s.Fatalf("tried %s: %v", id, err)
		}
	}
	return gid
}

func reserve(id string) transaction.Branch {
	return transaction.Branch{ID: id, Do: target("try " + id), Confirm: target("confirm " + id), Undo: target("cancel " + id)}
}

func (s *suite) register(gid, id string) {
	s.Helper()
	if err := s.driver.Register(s.Context(), app+gid, reserve(id)); err != nil {
		s.Fatalf("register %s: %v", id, err)
	}
}

func tccCommit(s *suite) {
	s.answers(func(c *transaction.Call) error {
		if c.Branch == "2" && c.Attempt == 1 {
			return errNo
		}
		return nil
	})
	g := s.tcc("1", "2")
	s.want(g)
	s.decide(g, transaction.Commit)
	s.ends(g, transaction.Committed)
	s.wantSet(g, "confirm 1", "confirm 2", "confirm 2")
	s.decide(g, transaction.Commit)
	_, err := s.driver.Decide(s.Context(), app+g, transaction.Abort)
	s.refused("abort after a commit", err, components.ErrPrecondition)
}

func tccAbort(s *suite) {
	g := s.tcc("1")
	s.register(g, "2") // whose try is not known
	s.decide(g, transaction.Abort)
	s.ends(g, transaction.Aborted)
	s.wantSet(g, "cancel 1", "cancel 2")
	_, err := s.driver.Decide(s.Context(), app+g, transaction.Commit)
	s.refused("commit after an abort", err, components.ErrPrecondition)
}

func tccTimeout(s *suite) {
	s.Policy.Timeout = s.Short
	g := s.tcc("1")
	s.ends(g, transaction.Aborted)
	s.want(g, "cancel 1")
}

func tccNotTried(s *suite) {
	g := s.tcc("1")
	s.register(g, "2")
	_, err := s.driver.Decide(s.Context(), app+g, transaction.Commit)
	s.refused("commit without a try", err, components.ErrPrecondition)
	s.register(g, "2")
	if err := s.driver.Tried(s.Context(), app+g, "2"); err != nil {
		s.Fatal(err)
	}
	s.decide(g, transaction.Commit)
	s.ends(g, transaction.Committed)
}

func tccLate(s *suite) {
	g := s.tcc("1")
	s.decide(g, transaction.Commit)
	s.refused("a branch after the commit", s.driver.Register(s.Context(), app+g, reserve("2")), components.ErrPrecondition)
	s.ends(g, transaction.Committed)
	s.want(g, "confirm 1")
}

func tccBranches(s *suite) {
	g := s.tcc("1")
	s.register(g, "1")
	changed := reserve("1")
	changed.Confirm.Data = nil
	s.refused("another branch of that id", s.driver.Register(s.Context(), app+g, changed), components.ErrExists)
	s.decide(g, transaction.Commit)
	s.ends(g, transaction.Committed)
	s.want(g, "confirm 1")
}

func (s *suite) message() (gid string) {
	s.Helper()
	gid = s.gid()
	deliveries := []transaction.Branch{{ID: "1", Do: target("do 1")}, {ID: "2", Do: target("do 2")}}
	s.begin(gid, transaction.Content{Kind: transaction.Message, Policy: s.Policy, Branches: deliveries, Check: target("check")})
	return gid
}

func messageSubmit(s *suite) {
	g := s.message()
	s.want(g)
	s.decide(g, transaction.Commit)
	s.ends(g, transaction.Committed)
	s.wantSet(g, "action 1", "action 2")
}

// messageCheck asks a sender that says nothing, until it answers.
func messageCheck(s *suite) {
	s.Policy.Timeout = s.Short
	s.answers(func(c *transaction.Call) error {
		if c.Op == transaction.OpCheck && c.Attempt == 1 {
			return errAway
		}
		return nil
	})
	g := s.message()
	s.ends(g, transaction.Committed)
	if said := s.said(g); len(said) != 4 || said[0] != "check check" || said[1] != "check check" {
		s.Errorf("%q", said)
	}
}

func messageFailed(s *suite) {
	s.Policy.Timeout = s.Short
	s.answers(func(c *transaction.Call) error {
		if c.Op == transaction.OpCheck {
			return errNo
		}
		return nil
	})
	g := s.message()
	s.ends(g, transaction.Aborted)
	s.want(g, "check check")
	_, err := s.driver.Decide(s.Context(), app+g, transaction.Commit)
	s.refused("submit after it was dropped", err, components.ErrPrecondition)
}

func messageAbort(s *suite) {
	g := s.message()
	s.decide(g, transaction.Abort)
	s.ends(g, transaction.Aborted)
	time.Sleep(s.Calm)
	s.want(g)
}

// messageInsists: who a message goes to cannot refuse it.
func messageInsists(s *suite) {
	s.answers(func(c *transaction.Call) error {
		if c.Branch == "1" && c.Attempt == 1 {
			return errNo
		}
		return nil
	})
	g := s.message()
	s.decide(g, transaction.Commit)
	s.ends(g, transaction.Committed)
	s.wantSet(g, "action 1", "action 1", "action 2")
}
