package nacos

import (
	"context"
	"slices"

	"github.com/nacos-group/nacos-sdk-go/v2/model"

	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

// list is what a server says of a service, and what is not believed to be gone. The hub's lock guards it.
type list struct {
	hosts []host
	held  []host   // of before the connection: the server has not listed them since
	asked bool     // the server has answered since
	taken []string // addresses that were taken back here after that
}

// now is what watchers are told. It is not changed.
func (l *list) now() []host {
	if len(l.held) == 0 {
		return l.hosts
	}
	return orderly(slices.Concat(l.hosts, l.held))
}

// suspect holds what is there: a new connection begins.
func (l *list) suspect() {
	*l = list{held: slices.DeleteFunc(slices.Clone(l.now()), func(h host) bool { return slices.Contains(l.taken, h.address) })}
}

// take takes what the server says. What it has listed once it may take away, and all when hold is over.
func (l *list) take(s model.Service, believed bool) {
	l.hosts, l.taken, l.asked = hostsOf(s), nil, true
	if believed {
		l.held = nil
	}
	l.held = slices.DeleteFunc(slices.Clone(l.held), func(h host) bool { return has(l.hosts, h.address) })
}

// gone says that a record was taken back here.
func (l *list) gone(address string) {
	l.taken = append(l.taken, address)
	l.held = slices.DeleteFunc(slices.Clone(l.held), func(h host) bool { return h.address == address })
}

func has(hosts []host, address string) bool {
	return slices.ContainsFunc(hosts, func(h host) bool { return h.address == address })
}

func (s *service) wakeAll() {
	for wake := range s.watches {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// believe lets go of what is held, where the server has been asked by now: what it has not said, or refuses to, is no empty list.
func (h *hub) believe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.believed = true
	for _, s := range h.services {
		if s.list.asked && len(s.list.held) > 0 {
			s.list.held = nil
			s.wakeAll()
		}
	}
}

// subscribe asks for the list, and for what comes after it. Who calls it has the turn.
func (h *hub) subscribe(ctx context.Context, s *service) error {
	h.mu.Lock()
	s.unseen = false // what changes from here on is pushed
	h.mu.Unlock()
	out := nacosconn.ServiceInfo{}
	if err := h.client.Read(ctx, nacosconn.Subscribe{Service: s.name, Subscribe: true}, &out); err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		s.unseen = true
		h.wakeUp()
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.list.take(out.Info, h.believed)
	s.wakeAll()
	return nil
}

// watch reports the list, and again whenever it has changed.
func (h *hub) watch(ctx context.Context, name nacosconn.Service, report func([]host) error) error {
	wake := make(chan struct{}, 1)
	s, err := h.enter(ctx, name)
	if err != nil {
		return err
	}
	h.mu.Lock()
	s.watches[wake] = struct{}{}
	h.mu.Unlock()
	err = h.subscribe(ctx, s)
	h.exit(s)
	defer h.client.Go(func() { h.unwatch(s, wake) })
	if err != nil {
		return err
	}
	for last, begun := []host(nil), false; ; {
		h.mu.Lock()
		now := s.list.now()
		h.mu.Unlock()
		if !begun || !slices.EqualFunc(now, last, host.same) {
			begun, last = true, now
			if err := report(now); err != nil {
				return err
			}
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unwatch ends a watch, and what the server pushes if it was the last. It asks no longer than a question may take.
func (h *hub) unwatch(s *service, wake chan struct{}) {
	ctx := context.Background()
	_, _ = h.enter(ctx, s.name) // it is there, and ctx does not end
	defer h.exit(s)
	h.mu.Lock()
	delete(s.watches, wake)
	last := len(s.watches) == 0
	h.mu.Unlock()
	if !last {
		return
	}
	_ = h.client.Read(ctx, nacosconn.Subscribe{Service: s.name}, nil) // if it stays, a push is for nobody
	h.mu.Lock()
	defer h.mu.Unlock()
	s.list = list{}
}
