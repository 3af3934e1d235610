package nacos

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/nacos-group/nacos-sdk-go/v2/model"
	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

// hub is the connection of all components with equal options: what they have registered, and what they watch. All of that is said
// again on each new connection.
type hub struct {
	client *nacosconn.Client
	log    *slog.Logger
	hold   time.Duration

	mu       sync.Mutex
	services map[nacosconn.Service]*service
	lives    int         // connections there have been
	letGo    *time.Timer // of what is held
	believed bool        // on this connection, hold is over
	wake     chan struct{}
}

// service is what is registered of one, and what its list is.
type service struct {
	name nacosconn.Service
	busy chan struct{} // held by who tells the server, so that it hears of the service in the order of its states

	// The hub's lock guards the rest.
	users   int                // who has its turn, or waits for it
	claims  map[string][]claim // by address; the last is what is registered
	untold  bool               // the server may not have been told the claims
	unseen  bool               // the server may have another list
	watches map[chan struct{}]struct{}
	list    list
}

// claim is a record of one component.
type claim struct {
	source
	in model.Instance
}

func (c claim) same(other claim) bool {
	return c.source == other.source && reflect.DeepEqual(c.in, other.in)
}

// source is a component, and which of its two records that may be at one address: a foreign service may be the same as one of ours, if
// they are configured to be in one namespace.
type source struct {
	of      *driver
	foreign bool
}

func openHub(ctx context.Context, env components.Env, o Options) (*hub, func(), error) {
	type key struct {
		registry any
		hold     time.Duration
	}
	return components.Share(ctx, env.Shared, key{o.Nacos.Key(), o.Hold}, func(ctx context.Context) (*hub, error) {
		h := &hub{log: env.Logger, hold: o.Hold, services: map[nacosconn.Service]*service{}, wake: make(chan struct{}, 1)}
		client, err := nacosconn.Open(ctx, env.Logger, nacosconn.Naming, o.Nacos, h)
		if err != nil && client != nil {
			client.Close()
		}
		h.client = client
		return h, err
	}, (*hub).close)
}

func (h *hub) close() {
	h.client.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.letGo != nil {
		h.letGo.Stop()
	}
}

// enter answers a service for whoever has its turn.
func (h *hub) enter(ctx context.Context, name nacosconn.Service) (*service, error) {
	h.mu.Lock()
	s := h.services[name]
	if s == nil {
		s = &service{name: name, busy: make(chan struct{}, 1), claims: map[string][]claim{}, watches: map[chan struct{}]struct{}{}}
		h.services[name] = s
	}
	s.users++
	h.mu.Unlock()
	select {
	case s.busy <- struct{}{}:
		return s, nil
	case <-ctx.Done():
		h.forget(s)
		return nil, ctx.Err()
	}
}

// exit ends the turn.
func (h *hub) exit(s *service) {
	<-s.busy
	h.forget(s)
}

// forget counts a user out, and lets go of a service that nobody needs.
func (h *hub) forget(s *service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.users--; s.users == 0 && len(s.claims) == 0 && len(s.watches) == 0 && !s.untold {
		delete(h.services, s.name)
	}
}

// register puts a claim in place of the component's last at the address. What could not be told stands, and is told when there is a
// connection; what is refused does not.
func (h *hub) register(ctx context.Context, name nacosconn.Service, address string, c claim) error {
	s, err := h.enter(ctx, name)
	if err != nil {
		return err
	}
	defer h.exit(s)
	before, untold := h.change(s, address, func(all []claim) []claim { return with(without(all, c.source), c) })
	err = h.publish(ctx, s)
	if nacosconn.IsInvalid(err) { // the server has what it had
		h.change(s, address, func([]claim) []claim { return before })
		h.mu.Lock()
		s.untold = untold
		h.mu.Unlock()
	}
	return err
}

// deregister takes a component's claim back.
func (h *hub) deregister(ctx context.Context, name nacosconn.Service, address string, of source) error {
	s, err := h.enter(ctx, name)
	if err != nil {
		return err
	}
	defer h.exit(s)
	h.change(s, address, func(all []claim) []claim { return without(all, of) })
	return h.publish(ctx, s)
}

// takeBack takes all claims of a component back.
func (h *hub) takeBack(ctx context.Context, of *driver) error {
	h.mu.Lock()
	var names []nacosconn.Service
	for name, s := range h.services {
		if len(s.of(of)) > 0 {
			names = append(names, name)
		}
	}
	h.mu.Unlock()
	var first error
	for _, name := range names {
		s, err := h.enter(ctx, name)
		if err != nil {
			return err
		}
		h.mu.Lock()
		addresses := s.of(of)
		h.mu.Unlock()
		for _, address := range addresses {
			h.change(s, address, func(all []claim) []claim { return without(without(all, source{of, false}), source{of, true}) })
		}
		if first == nil { // with one that does not answer there is no use in asking on
			first = h.publish(ctx, s)
		}
		h.exit(s)
	}
	return first
}

// of are the addresses that a component claims. The hub's lock is held.
func (s *service) of(of *driver) (all []string) {
	for address, claims := range s.claims {
		if slices.ContainsFunc(claims, func(c claim) bool { return c.of == of }) {
			all = append(all, address)
		}
	}
	return all
}

func without(all []claim, of source) []claim {
	return slices.DeleteFunc(slices.Clone(all), func(c claim) bool { return c.source == of })
}

// with puts a claim last, but before the component's foreign one: that is in a form that both kinds of readers know.
func with(all []claim, c claim) []claim {
	for i, other := range all {
		if other.source == (source{c.of, true}) {
			return slices.Insert(all, i, c)
		}
	}
	return append(all, c)
}

// change changes the claims at an address, and answers what was before.
func (h *hub) change(s *service, address string, change func([]claim) []claim) (before []claim, untold bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, untold = s.claims[address], s.untold
	now := change(before)
	if slices.EqualFunc(before, now, claim.same) { // who asks again is not to have all who watch told again
		return before, untold
	}
	s.untold = true
	s.claims[address] = now
	if len(now) == 0 {
		delete(s.claims, address)
		s.list.gone(address)
		s.wakeAll()
	}
	return before, untold
}

// publish tells the server what is claimed, unless it knows. Who calls it has the turn.
func (h *hub) publish(ctx context.Context, s *service) error {
	h.mu.Lock()
	untold, life := s.untold, h.lives
	in := make([]model.Instance, 0, len(s.claims))
	for _, address := range slices.Sorted(maps.Keys(s.claims)) {
		all := s.claims[address]
		in = append(in, all[len(all)-1].in)
	}
	h.mu.Unlock()
	if !untold {
		return nil
	}
	var r nacosconn.Request = nacosconn.InstancesPublish{Service: s.name, Type: nacosconn.Batch, Instances: in}
	if len(in) == 0 {
		r = nacosconn.InstancesRemove{Service: s.name, Type: nacosconn.Deregister, Instance: model.Instance{Ephemeral: true, ClusterName: cluster}}
	}
	err := h.client.Write(ctx, r)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && !nacosconn.IsInvalid(err) {
		h.wakeUp()
		return err
	}
	s.untold = h.lives != life // what the connection before was told is forgotten
	return err
}

// Connected implements nacosconn.Handler: what is registered is registered again, then what is watched is asked for. From then on it sees to
// what was pushed, and what could not be told.
func (h *hub) Connected(ctx context.Context) {
	h.begin()
	said := "" // each fault is logged once in a row
	for wait := (backend.Backoff{Most: time.Second}); ctx.Err() == nil; {
		err := errors.Join(h.each(ctx, h.publish, func(s *service) bool { return s.untold }),
			h.each(ctx, h.subscribe, func(s *service) bool { return s.unseen && len(s.watches) > 0 }))
		var again <-chan time.Time
		if err == nil {
			said = ""
			wait.Reset()
		} else {
			again = time.After(wait.Next())
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			h.log.Warn("telling nacos again", "err", err)
		}
		select {
		case <-again:
		case <-h.wake:
		case <-ctx.Done():
		}
	}
}

// begin says that a new connection knows nothing.
func (h *hub) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lives++
	h.believed = false
	for _, s := range h.services {
		s.untold, s.unseen = len(s.claims) > 0, true
		if h.lives > 1 {
			s.list.suspect()
		}
	}
	if h.letGo != nil {
		h.letGo.Stop()
	}
	h.letGo = time.AfterFunc(h.hold, h.believe)
}

// each tells the server of those services.
func (h *hub) each(ctx context.Context, tell func(context.Context, *service) error, which func(*service) bool) error {
	h.mu.Lock()
	var names []nacosconn.Service
	for name, s := range h.services {
		if which(s) {
			names = append(names, name)
		}
	}
	h.mu.Unlock()
	all := errgroup.Group{}
	all.SetLimit(tellAtOnce)
	for _, name := range names {
		all.Go(func() error {
			s, err := h.enter(ctx, name)
			if err != nil {
				return err
			}
			defer h.exit(s)
			return tell(ctx, s)
		})
	}
	return all.Wait()
}

// tellAtOnce is how many services the server is told of at a time: of thousands, one after the other would take longer than hold.
const tellAtOnce = 16

// wakeUp has the connection see to what is to be told.
func (h *hub) wakeUp() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Pushed implements nacosconn.Handler. A push does not say which namespace it is of: so it only says that there is something to
// ask for.
func (h *hub) Pushed(kind string, body []byte) {
	in := nacosconn.ServiceInfo{}
	if kind != nacosconn.InstancesChanged || json.Unmarshal(body, &in) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, s := range h.services {
		if name.Group == in.Info.GroupName && name.Name == in.Info.Name && len(s.watches) > 0 {
			s.unseen = true
			h.wakeUp()
		}
	}
}
