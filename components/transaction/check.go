package transaction

import (
	"fmt"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Bounds of what the front lets pass.
const (
	MaxBranches = 1000
	MaxContent  = 1 << 20 // what the calls of one transaction come to, in bytes
	MaxGID      = 64
	MinPause    = time.Millisecond
	MaxTimeout  = 365 * 24 * time.Hour
)

// checkGID keeps a gid fit for headers, and for DTM's barrier tables, where it has the application before it.
func checkGID(gid string) error {
	if len(gid) == 0 || len(gid) > MaxGID || strings.ContainsFunc(gid, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return invalid("the gid %.80q is not 1 to %d printable characters of ASCII without a slash", gid, MaxGID)
	}
	return nil
}

// complete fills in what was left out and refuses what makes no sense.
func (c Content) complete(d Policy) (Content, error) {
	var err error
	if c.Policy, err = c.Policy.complete(d); err != nil {
		return c, err
	}
	if err := c.Fits(); err != nil {
		return c, err
	}
	switch c.Kind {
	case Saga:
		if len(c.Branches) == 0 {
			return c, invalid("the saga has no steps")
		}
	case Message:
		if len(c.Branches) == 0 {
			return c, invalid("the message goes nowhere")
		}
		if err := c.Check.check("check"); err != nil {
			return c, err
		}
		if c.Check.IsZero() || c.Check.Topic != "" {
			return c, invalid("check: how to ask whether the work was done is missing: a service and its method, or a stream")
		}
	case TCC:
	default:
		return c, invalid("%.32q is no kind of transaction", c.Kind)
	}
	for i := range c.Branches {
		if err := c.Branches[i].check(c.Kind); err != nil {
			return c, err
		}
	}
	return c, c.ordered()
}

// Fits tells whether a transaction keeps within MaxBranches and MaxContent.
func (c *Content) Fits() error {
	if len(c.Branches) > MaxBranches {
		return tooLarge("branches", "%d branches are more than %d", len(c.Branches), MaxBranches)
	}
	size := c.Check.size()
	for i := range c.Branches {
		size += c.Branches[i].size()
	}
	if size > MaxContent {
		return tooLarge("content", "the calls of the transaction come to %d bytes, more than %d", size, MaxContent)
	}
	return nil
}

func (p Policy) complete(d Policy) (Policy, error) {
	for _, f := range []struct {
		name    string
		is      *time.Duration
		unsaid  time.Duration
		longest time.Duration
	}{{"timeout", &p.Timeout, d.Timeout, MaxTimeout}, {"call timeout", &p.CallTimeout, d.CallTimeout, time.Hour},
		{"first pause", &p.FirstPause, d.FirstPause, 24 * time.Hour}, {"longest pause", &p.LongPause, max(d.LongPause, p.FirstPause), 24 * time.Hour}} {
		if *f.is == 0 {
			*f.is = f.unsaid
		}
		if *f.is < MinPause || *f.is > f.longest {
			return p, invalid("%s: %s is not from %s to %s", f.name, *f.is, MinPause, f.longest)
		}
	}
	if p.FirstPause > p.LongPause {
		return p, invalid("the first pause of %s is longer than the longest, %s", p.FirstPause, p.LongPause)
	}
	return p, nil
}

func (b *Branch) check(k Kind) error {
	if err := components.CheckKey(b.ID); err != nil || len(b.ID) > MaxGID || b.ID == CheckBranch && k == Message {
		return invalid("branch %.80q: an id has 1 to %d bytes of UTF-8 without NUL; that of a message is not %q", b.ID, MaxGID, CheckBranch)
	}
	for _, t := range []struct {
		name   string
		is     *Target
		needed bool
		wanted bool
	}{{doing[k], &b.Do, k != TCC, true}, {OpConfirm, &b.Confirm, k == TCC, k == TCC}, {undoing[k], &b.Undo, k == TCC, k != Message}} {
		name := fmt.Sprintf("branch %.64q: %s", b.ID, t.name)
		if err := t.is.check(name); err != nil {
			return err
		}
		switch {
		case t.needed && t.is.IsZero():
			return invalid("%s: the call is missing: a service and its method, or a stream", name)
		case !t.wanted && !t.is.IsZero():
			return invalid("branch %.64q: a call that a %s does not have", b.ID, k)
		case t.is.Topic != "" && k != Message:
			return invalid("%s: only messages go to topics", name)
		}
	}
	return nil
}

var (
	doing   = map[Kind]string{Saga: OpAction, TCC: OpTry, Message: OpAction}
	undoing = map[Kind]string{Saga: OpCompensation, TCC: OpCancel, Message: OpCompensation}
)

func (t *Target) check(what string) error {
	kinds := 0
	for _, set := range []bool{t.Service != "", t.Topic != "", t.Stream} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return invalid("%s: it goes to one of a service, a topic and a stream", what)
	case t.Service != "" && t.Method == "":
		return invalid("%s: the method is empty", what)
	case kinds == 0 && t.size() > 0:
		return invalid("%s: neither service nor topic nor stream is named", what)
	}
	for name := range t.Metadata {
		if strings.HasPrefix(strings.ToLower(name), "tx-") {
			return invalid("%s: metadata %.64q: what begins with tx- is set by the sidecar", what, name)
		}
	}
	return nil
}

// ordered refuses ids that are there twice, and steps that wait for what never comes.
func (c *Content) ordered() error {
	at := make(map[string]int, len(c.Branches))
	for i, b := range c.Branches {
		if _, twice := at[b.ID]; twice {
			return invalid("branch %.64q is there twice", b.ID)
		}
		at[b.ID] = i
	}
	waits, next := make([]int, len(c.Branches)), make([][]int, len(c.Branches))
	var ready []int
	for i, b := range c.Branches {
		for _, name := range b.After {
			j, known := at[name]
			if !known {
				return invalid("branch %.64q comes after %.64q, which is not there", b.ID, name)
			}
			next[j] = append(next[j], i)
		}
		if waits[i] = len(b.After); waits[i] == 0 {
			ready = append(ready, i)
		}
	}
	done := 0
	for ; len(ready) > 0; done++ {
		i := ready[0]
		ready = ready[1:]
		for _, j := range next[i] {
			if waits[j]--; waits[j] == 0 {
				ready = append(ready, j)
			}
		}
	}
	if done < len(c.Branches) {
		for i, n := range waits {
			if n > 0 {
				return invalid("branch %.64q waits for itself, by way of what it comes after", c.Branches[i].ID)
			}
		}
	}
	return nil
}
