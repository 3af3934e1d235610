package mesh

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// update takes over what the source says of the service now.
func (e *Entry) update(all []Instance) {
	d := e.directory
	e.wake(func(now *Snapshot) *Snapshot {
		before := make(map[string]*Endpoint, len(now.Endpoints)+len(now.Held))
		for _, list := range [...][]*Endpoint{now.Endpoints, now.Held} {
			for _, p := range list {
				before[p.instance.Address] = p
			}
		}
		had := len(before)
		next := &Snapshot{Known: true, Endpoints: e.carry(before, all)}
		for i := range all {
			delete(before, all[i].Address)
		}
		if d.Hold > 0 && now.Known && !now.Stale && incredible(had, len(all)) {
			next.Held = slices.SortedFunc(maps.Values(before), func(a, b *Endpoint) int {
				return strings.Compare(a.instance.Address, b.instance.Address)
			})
		}
		switch {
		case len(next.Held) > 0 && len(now.Held) == 0:
			d.log.Log(context.Background(), alarm(had), "the registry drops most instances of a service at once: calls go on to those that can be connected until it stays so",
				"service", e.Service.String(), "had", had, "has", len(all), "for", d.Hold)
			e.hold(d.Hold)
		case len(next.Held) == 0 && len(now.Held) > 0:
			e.release.Stop()
		}
		return next
	})
	d.saved.drop(e.Service)
}

// Of so many instances and more, it is not to be believed that more than half go at once; of any, that all do.
const crowd = 4

func incredible(had, have int) bool {
	return had > 0 && have == 0 || had >= crowd && 2*have < had
}

// alarm is how loudly it is logged that so many instances are dropped: a few go whenever a small service, or its machine, is stopped.
func alarm(n int) slog.Level {
	if n < crowd {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// hold has the dropped instances let go of after a while. e.mu is held.
func (e *Entry) hold(long time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(long, func() {
		e.wake(func(now *Snapshot) *Snapshot {
			if e.release != timer || len(now.Held) == 0 {
				return now
			}
			e.directory.log.Log(context.Background(), alarm(len(now.Held)), "it is confirmed that the instances are gone", "service", e.Service.String(), "gone", len(now.Held))
			return &Snapshot{Known: now.Known, Stale: now.Stale, Err: now.Err, Endpoints: now.Endpoints}
		})
	})
	e.release = timer
}

// letGo ends the timer.
func (e *Entry) letGo() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.release != nil {
		e.release.Stop()
	}
}

// unreachable is told of an endpoint that cannot be connected, or whose sidecar says that nobody serves this there: that confirms what the source
// says of one that is held.
func (e *Entry) unreachable(p *Endpoint) {
	if len(e.Snapshot().Held) == 0 {
		return
	}
	e.wake(func(now *Snapshot) *Snapshot {
		i := slices.IndexFunc(now.Held, p.is)
		if i < 0 {
			return now
		}
		return &Snapshot{Known: now.Known, Stale: now.Stale, Err: now.Err, Endpoints: now.Endpoints,
			Held: slices.Delete(slices.Clone(now.Held), i, i+1)}
	})
}

// carry keeps what was learnt of endpoints whose instances may have changed their weights or labels.
func (e *Entry) carry(before map[string]*Endpoint, all []Instance) []*Endpoint {
	out := make([]*Endpoint, len(all))
	var others []int
	for i := range all {
		if old := before[all[i].Address]; old != nil && *old.instance == all[i] {
			out[i] = old
		} else {
			others = append(others, i)
		}
	}
	made, texts := make([]placed, len(others)), textsOf(all, others)
	for n, i := range others {
		k, tally := &made[n], &made[n].tally
		k.in = texts.own(all[i])
		if old := before[all[i].Address]; old != nil {
			tally = old.tally
		}
		k.Endpoint = Endpoint{entry: e, instance: &k.in, tally: tally}
		out[i] = &k.Endpoint
	}
	return out
}

// placed is an endpoint with what calls read of it. Those that come with one push are one piece of memory, and their texts another: the list that
// they came in is let go, and of 100,000 instances the garbage collector has two things to look at for each service, not a dozen for each instance.
type placed struct {
	Endpoint
	in    Instance
	tally tally
}

// texts is one string that all others are cut from.
type texts struct {
	all  string
	last Instance
}

func textsOf(all []Instance, which []int) *texts {
	var b strings.Builder
	var last Instance
	for _, i := range which {
		in := &all[i]
		for _, s := range [...]string{in.Address, string(in.Labels), other(in.Zone, last.Zone), other(in.Identity, last.Identity), other(in.Protocol, last.Protocol)} {
			b.WriteString(s)
		}
		last = *in
	}
	return &texts{all: b.String()}
}

// other is a text that differs from the one before.
func other(s, last string) string {
	if s == last {
		return ""
	}
	return s
}

// own is the next instance, made of the one string.
func (t *texts) own(in Instance) Instance {
	cut := func(s, last string) string {
		if s == last {
			return last
		}
		s, t.all = t.all[:len(s)], t.all[len(s):]
		return s
	}
	in.Address, in.Labels = cut(in.Address, ""), Labels(cut(string(in.Labels), ""))
	in.Zone, in.Identity, in.Protocol = cut(in.Zone, t.last.Zone), cut(in.Identity, t.last.Identity), cut(in.Protocol, t.last.Protocol)
	t.last = in
	return in
}

// is tells whether two endpoints are at one address, whatever else has changed.
func (e *Endpoint) is(other *Endpoint) bool { return e.tally == other.tally }

// recall fills in what the disk remembers.
func (e *Entry) recall(s *Snapshot) {
	all := e.directory.saved.find(e.Service)
	if len(all) == 0 {
		return
	}
	s.Known, s.Stale = true, true
	s.Endpoints = e.carry(nil, all)
	e.directory.log.Warn("the registry does not answer: calls go to the instances that were known before", "service", e.Service.String(), "instances", len(all))
}
