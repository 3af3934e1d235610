package transaction

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what the front lets pass.
const (
	MaxBranches = 1000
	MaxContent  = 1 << 20 // what the calls of one transaction come to, in bytes
	MaxGID      = 64
	MinPause    = time.Millisecond
	MaxTimeout  = 365 * 24 * time.Hour
)

// checkID keeps the id of a transaction or of a branch fit for headers, and for DTM's barrier tables.
func checkID(what, id string) error {
	if len(id) == 0 || len(id) > MaxGID || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return Invalid("%s %.80q is not 1 to %d printable characters of ASCII without a slash", what, id, MaxGID)
	}
	return nil
}

// maxTold is what barrier tables have for what Told answers, in bytes.
const maxTold = 128

func checkTold(told string) error {
	if len(told) > maxTold {
		return Invalid("branches would be told the gid %q, whose %d bytes are more than the %d of barrier tables: choose a shorter one", told, len(told), maxTold)
	}
	return nil
}

// complete fills in what was left out and refuses what makes no sense.
func (c Content) complete(d Policy) (Content, error) {
	var err error
	c.Said = c.Policy
	if c.Policy, err = c.Policy.complete(d); err != nil {
		return c, err
	}
	if err := c.Fits(); err != nil {
		return c, err
	}
	switch c.Kind {
	case Saga:
		if len(c.Branches) == 0 {
			return c, Invalid("the saga has no steps")
		}
	case Message:
		if len(c.Branches) == 0 {
			return c, Invalid("the message goes nowhere")
		}
		if err := c.Check.check("check"); err != nil {
			return c, err
		}
		if c.Check.IsZero() || c.Check.Topic != "" {
			return c, Invalid("check: how to ask whether the work was done is missing: a service and its method, or a stream")
		}
	case TCC:
	default:
		return c, Invalid("%.32q is no kind of transaction", c.Kind)
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
		return TooLarge("branches", "%d branches are more than %d", len(c.Branches), MaxBranches)
	}
	size := c.Check.size()
	for i := range c.Branches {
		size += c.Branches[i].size()
	}
	if size > MaxContent {
		return TooLarge("content", "the calls of the transaction come to %d bytes, more than %d", size, MaxContent)
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
			return p, Invalid("%s: %s is not from %s to %s", f.name, *f.is, MinPause, f.longest)
		}
	}
	if p.FirstPause > p.LongPause {
		return p, Invalid("the first pause of %s is longer than the longest, %s", p.FirstPause, p.LongPause)
	}
	return p, nil
}

func (b *Branch) check(k Kind) error {
	if err := checkID("the branch", b.ID); err != nil {
		return err
	}
	if b.ID == CheckBranch && k == Message {
		return Invalid("branch %q: of a message that is the id of the check", b.ID)
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
			return Invalid("%s: the call is missing: a service and its method, or a stream", name)
		case !t.wanted && !t.is.IsZero():
			return Invalid("branch %.64q: a call that a %s does not have", b.ID, k)
		case t.is.Topic != "" && k != Message:
			return Invalid("%s: only messages go to topics", name)
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
		return Invalid("%s: it goes to one of a service, a topic and a stream", what)
	case t.Service != "" && t.Method == "":
		return Invalid("%s: the method is empty", what)
	case kinds == 0 && t.size() > 0:
		return Invalid("%s: neither service nor topic nor stream is named", what)
	case t.Service != "" && !isService(t.Service):
		return Invalid("%s: service %.128q: write NAME or NAMESPACE/NAME", what, t.Service)
	case t.Service != "" && t.Verb != "" && !isToken(t.Verb):
		return Invalid("%s: the verb %.64q is none", what, t.Verb)
	case t.Service != "" && strings.ContainsFunc(t.Method, unicode.IsControl):
		return Invalid("%s: method %.128q has control characters", what, t.Method)
	case t.Service != "" && isOwn(t.Method):
		return Invalid("%s: method %.128q is not sent to applications", what, t.Method)
	}
	for name, value := range t.Metadata {
		if t.Service != "" && (!isToken(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })) {
			return Invalid("%s: metadata %.64q is no header", what, name)
		}
		if strings.HasPrefix(strings.ToLower(name), "tx-") {
			return Invalid("%s: metadata %.64q: what begins with tx- is set by the sidecar", what, name)
		}
	}
	return nil
}

// isService tells what the mesh takes for NAME or NAMESPACE/NAME.
func isService(text string) bool {
	namespace, name, found := strings.Cut(text, "/")
	if !found {
		namespace, name = "n", text
	}
	return namespace != "" && name != "" && len(namespace) <= 63 && len(name) <= 255 && !strings.Contains(name, "/") && utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' })
}

// isOwn tells which methods the mesh does not send.
func isOwn(method string) bool {
	method = strings.TrimLeft(method, "/")
	return strings.HasPrefix(method, "outrigger.") || strings.HasPrefix(method, "grpc.") || strings.HasPrefix(method, "dapr.")
}

// isToken tells what is the name of a header, or a verb.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r)
	})
}

// ordered refuses ids that are there twice, and steps that wait for what never comes.
func (c *Content) ordered() error {
	at := make(map[string]int, len(c.Branches))
	for i, b := range c.Branches {
		if _, twice := at[b.ID]; twice {
			return Invalid("branch %.64q is there twice", b.ID)
		}
		at[b.ID] = i
	}
	waits, next := make([]int, len(c.Branches)), make([][]int, len(c.Branches))
	var ready []int
	for i, b := range c.Branches {
		for _, name := range b.After {
			j, known := at[name]
			if !known {
				return Invalid("branch %.64q comes after %.64q, which is not there", b.ID, name)
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
				return Invalid("branch %.64q waits for itself, by way of what it comes after", c.Branches[i].ID)
			}
		}
	}
	return nil
}
