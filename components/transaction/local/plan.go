package local

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// tx is a transaction: what it is to do, and what has become of it. It decides, and neither calls nor stores anything.
type tx struct {
	key string
	content
	run
	places map[string]int // of branches, by id
	next   [][]int        // the branches that come after each
}

// begin makes one that has just begun.
func begin(key string, c content, now db.Time, wall time.Time) *tx {
	t := &tx{key: key, content: c, run: run{State: transaction.Running, Began: wall, Start: now, Deadline: now.Add(c.Policy.Timeout),
		Branches: make([]progress, len(c.Branches))}}
	if c.Kind != transaction.Saga {
		t.State = transaction.Prepared
	}
	return t
}

// checks is the place of the call that asks a message's sender; other places are those of branches.
const checks = -1

// call is one that is to be made.
type call struct {
	at     int
	op     string
	target *transaction.Target
	after  db.Time // not before
}

// calls are those that are to be made in this state, or are under way.
func (t *tx) calls() (all []call) {
	if t.State == transaction.Prepared && t.Kind == transaction.Message {
		return []call{{checks, transaction.OpCheck, &t.content.Check, max(t.Deadline, t.run.Check.Next)}}
	}
	known := undoing{}
	for i := range t.run.Branches {
		p := &t.run.Branches[i]
		if op, target := t.wanted(i, known); op != "" {
			all = append(all, call{i, op, target, p.Next})
		}
	}
	return all
}

// wanted is what a branch is to be called for now; "": nothing.
func (t *tx) wanted(i int, known undoing) (op string, target *transaction.Target) {
	b, p := &t.content.Branches[i], &t.run.Branches[i]
	switch {
	case t.State == transaction.Running && p.Forward == unknown && t.ready(i):
		return transaction.OpAction, &b.Do
	case t.State == transaction.Committing && t.Kind == transaction.Message && p.Forward == unknown:
		return transaction.OpAction, &b.Do
	case t.State == transaction.Committing && t.Kind == transaction.TCC && p.Second == unknown:
		return transaction.OpConfirm, &b.Confirm
	case t.State == transaction.Aborting && t.Kind == transaction.TCC && p.Second == unknown:
		return transaction.OpCancel, &b.Undo
	case t.State == transaction.Aborting && t.Kind == transaction.Saga && t.undoes(i) && !t.heldBack(i, known):
		return transaction.OpCompensation, &b.Undo
	}
	return "", nil
}

func (t *tx) wantedAt(at int) (op string) {
	if at != checks {
		op, _ = t.wanted(at, undoing{})
	} else if t.State == transaction.Prepared {
		op = transaction.OpCheck
	}
	return op
}

// ready tells whether the actions are done that come before one.
func (t *tx) ready(i int) bool {
	for _, id := range t.content.Branches[i].After {
		if j := t.place(id); j < 0 || t.run.Branches[j].Forward != done {
			return false
		}
	}
	return true
}

// touched tells whether a saga's action may have been called.
func (t *tx) touched(i int) bool { return t.Unsure || t.ready(i) }

// doubt is for whoever has not driven it so far, and knows only what was written.
func (t *tx) doubt() { t.Unsure = t.Unsure || t.State == transaction.Running }

// undoes tells whether a saga's branch is still to be compensated.
func (t *tx) undoes(i int) bool {
	return t.run.Branches[i].Second == unknown && !t.content.Branches[i].Undo.IsZero() && t.touched(i)
}

// undoing has, of branches, whether they or something that came after them are still to be compensated. It is good for one state.
type undoing map[int]bool

// heldBack tells whether something that came after a branch has to be compensated first.
func (t *tx) heldBack(i int, known undoing) bool {
	t.index()
	return slices.ContainsFunc(t.next[i], func(j int) bool {
		is, ok := known[j]
		if !ok {
			is = t.touched(j) && (t.undoes(j) || t.heldBack(j, known))
			known[j] = is
		}
		return is
	})
}

func (t *tx) place(id string) int {
	t.index()
	if i, ok := t.places[id]; ok {
		return i
	}
	return -1
}

// index finds out which branch is where, and which come after it.
func (t *tx) index() {
	all := t.content.Branches
	if len(t.next) == len(all) && t.places != nil {
		return
	}
	t.places, t.next = make(map[string]int, len(all)), make([][]int, len(all))
	for i := range all {
		t.places[all[i].ID] = i
	}
	for i := range all {
		for _, id := range all[i].After {
			if j, ok := t.places[id]; ok {
				t.next[j] = append(t.next[j], i)
			}
		}
	}
}

// advance moves the state on as far as it goes, and tells whether it did. What is final is the caller's to write.
func (t *tx) advance(now db.Time) (moved bool) {
	for t.step(now) {
		moved = true
	}
	return moved
}

func (t *tx) step(now db.Time) bool {
	left, bad, known := 0, -1, undoing{}
	for i := range t.run.Branches {
		if op, _ := t.wanted(i, known); op != "" || t.State == transaction.Running && t.run.Branches[i].Forward != done {
			left++
		}
		if t.run.Branches[i].Forward == failed && bad < 0 {
			bad = i
		}
	}
	switch {
	case t.State == transaction.Running && bad >= 0:
		t.rollBack("a branch failed: " + t.run.Branches[bad].Last)
		t.Failed = t.content.Branches[bad].ID
	case t.State == transaction.Running && left == 0:
		t.to(transaction.Committed)
	case t.State == transaction.Running && now >= t.Deadline, t.State == transaction.Prepared && t.Kind == transaction.TCC && now >= t.Deadline:
		t.rollBack(fmt.Sprintf("it took longer than %s", t.Policy.Timeout))
	case t.State == transaction.Prepared && t.Kind == transaction.Message && t.run.Check.Forward == done:
		t.to(transaction.Committing)
	case t.State == transaction.Prepared && t.Kind == transaction.Message && t.run.Check.Forward == failed:
		t.rollBack("asked back, the application says that its work was not done")
	case t.State == transaction.Committing && left == 0:
		t.to(transaction.Committed)
	case t.State == transaction.Aborting && left == 0:
		t.to(transaction.Aborted)
	default:
		return false
	}
	return true
}

// rollBack begins to take back what was done, of which a message has nothing.
func (t *tx) rollBack(why string) {
	t.Reason = why
	if t.Kind == transaction.Message {
		t.to(transaction.Aborted)
		return
	}
	t.to(transaction.Aborting)
}

// to changes the state; attempts are counted anew.
func (t *tx) to(s transaction.State) {
	t.State = s
	if s.Final() {
		return
	}
	t.again()
}

// again has all that waits for its next attempt tried at once.
func (t *tx) again() {
	t.run.Check.Attempts, t.run.Check.Next = 0, 0
	for i := range t.run.Branches {
		t.run.Branches[i].Attempts, t.run.Branches[i].Next = 0, 0
	}
}

func (t *tx) progress(at int) *progress {
	if at == checks {
		return &t.run.Check
	}
	return &t.run.Branches[at]
}

// longestText is what is kept of an error, in bytes.
const longestText = 256

// came takes in how a call has ended. Only an action, a try and a check can fail; of what has to succeed in the end that is one more
// attempt.
//
// What is not wanted any more is passed over: a saga that is rolled back compensates each action that was called, however that ended.
func (t *tx) came(c call, err error, now db.Time) {
	if op := t.wantedAt(c.at); op != c.op {
		return
	}
	p := t.progress(c.at)
	result := done
	if err != nil {
		result = unknown
		p.Last = clip(err.Error())
	}
	forward := c.op == transaction.OpAction || c.op == transaction.OpCheck
	if transaction.HasFailed(err) && forward && t.State != transaction.Committing {
		result = failed
	}
	switch {
	case result == unknown:
		p.Attempts++
		p.Next = now.Add(t.pause(p.Attempts))
		return
	case forward:
		p.Forward = result
	default:
		p.Second = result
	}
	if p.Attempts, p.Next = 0, 0; result == done {
		p.Last = ""
	}
}

// clip makes one line of an error.
func clip(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), longestText)], "?")
}

// pause is how long after so many attempts the next one is made.
func (t *tx) pause(attempts int) time.Duration {
	p := t.Policy.FirstPause
	for ; attempts > 1 && p < t.Policy.LongPause; attempts-- {
		p *= 2
	}
	return min(p, t.Policy.LongPause)
}

// most is the largest number of attempts at a call.
func (t *tx) most() (n int) {
	for i := range t.run.Branches {
		n = max(n, t.run.Branches[i].Attempts)
	}
	return max(n, t.run.Check.Attempts)
}

// decide does what somebody outside has decided. False: it is decided already.
func (t *tx) decide(d transaction.Decision) (changed bool, err error) {
	open := t.State == transaction.Prepared
	switch d {
	case transaction.Commit:
		if !open || t.Kind == transaction.Saga {
			return false, t.settled(d, transaction.Committing, transaction.Committed)
		}
		for i := range t.content.Branches {
			if b := &t.content.Branches[i]; t.Kind == transaction.TCC && !b.Do.IsZero() && t.run.Branches[i].Forward != done {
				return false, transaction.NotTried(b.ID)
			}
		}
		t.to(transaction.Committing)
	case transaction.Abort:
		if !open && t.State != transaction.Running {
			return false, t.settled(d, transaction.Aborting, transaction.Aborted)
		}
		t.rollBack("it was aborted")
	case transaction.Retry:
		if t.State.Final() {
			return false, t.settled(d)
		}
		t.again()
	case transaction.GiveUp:
		if t.State.Final() {
			return false, t.settled(d, transaction.GivenUp)
		}
		t.to(transaction.GivenUp)
	}
	return true, nil
}

// settled is no error in the states that were to be come to.
func (t *tx) settled(d transaction.Decision, there ...transaction.State) error {
	for _, s := range there {
		if t.State == s && (t.Kind != transaction.Saga || d != transaction.Commit) {
			return nil
		}
	}
	return transaction.Late(string(d), t.State)
}

// register adds a branch to a TCC. False: it is there.
func (t *tx) register(b transaction.Branch) (bool, error) {
	if t.Kind != transaction.TCC || t.State != transaction.Prepared {
		return false, transaction.Late("register a branch", t.State)
	}
	if i := t.place(b.ID); i >= 0 {
		if !t.content.Branches[i].Same(&b) {
			return false, transaction.BranchExists(b.ID)
		}
		return false, nil
	}
	t.content.Branches = append(t.content.Branches, b)
	t.run.Branches = append(t.run.Branches, progress{})
	return true, t.content.Content.Fits()
}

// info is what is told of it.
func (t *tx) info(now db.Time, branches bool) transaction.Info {
	i := transaction.Info{GID: name(t.key), Kind: t.Kind, State: t.State, Reason: t.Reason, Failed: t.Failed, Began: t.Began, Ended: t.Ended}
	if !branches {
		return i
	}
	if t.Kind == transaction.Message && t.State == transaction.Prepared {
		i.Branches = append(i.Branches, t.run.Check.info(transaction.CheckBranch, transaction.OpCheck, t.run.Check.Forward == done, now))
	}
	for j := range t.run.Branches {
		p := &t.run.Branches[j]
		op, is := t.about(j)
		i.Branches = append(i.Branches, p.info(t.content.Branches[j].ID, op, is, now))
	}
	return i
}

// about is what a branch is called for in this state, or was, and whether that was OK.
func (t *tx) about(i int) (op string, ok bool) {
	p := &t.run.Branches[i]
	back := t.State == transaction.Aborting || t.State == transaction.Aborted
	switch {
	case t.Kind == transaction.TCC && t.State == transaction.Prepared:
		return transaction.OpTry, p.Forward == done
	case t.Kind == transaction.TCC && back:
		return transaction.OpCancel, p.Second == done
	case t.Kind == transaction.TCC:
		return transaction.OpConfirm, p.Second == done
	case back && t.Kind == transaction.Saga && !t.content.Branches[i].Undo.IsZero() && t.touched(i):
		return transaction.OpCompensation, p.Second == done
	}
	return transaction.OpAction, p.Forward == done
}

func (p *progress) info(id, op string, ok bool, now db.Time) transaction.BranchInfo {
	b := transaction.BranchInfo{ID: id, Op: op, Done: ok, Attempts: p.Attempts, Last: p.Last}
	if p.Next > now {
		b.Pause = p.Next.Sub(now)
	}
	return b
}
