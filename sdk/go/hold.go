package client

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/serviceconfig"
)

// holdPolicy is a load balancing policy: pick_first, but when a connection that worked is lost, its failures to reconnect are
// held back for a while. Until then gRPC lets calls wait that were not sent yet. It is done here, and not around
// each call, because only gRPC knows of a call that it sent but the old sidecar never began, which it sends again by itself.
const holdPolicy = "outrigger_hold"

func init() { balancer.Register(holdBuilder{}) }

type holdBuilder struct{}

type holdConfig struct {
	serviceconfig.LoadBalancingConfig `json:"-"`
	Grace                             time.Duration `json:"grace"`
	Address                           string        `json:"address"`
}

// serviceConfig selects the policy for one client.
func serviceConfig(t target, grace time.Duration) (string, error) {
	policy := map[string]holdConfig{holdPolicy: {Grace: grace, Address: t.String()}}
	text, err := json.Marshal(map[string]any{"loadBalancingConfig": []any{policy}})
	return string(text), err
}

func (holdBuilder) Name() string { return holdPolicy }

func (holdBuilder) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	c := &holdConfig{}
	return c, json.Unmarshal(text, c)
}

func (holdBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	conn := &heldConn{ClientConn: cc}
	return &hold{Balancer: balancer.Get(pickfirst.Name).Build(conn, o), conn: conn}
}

type hold struct {
	balancer.Balancer
	conn *heldConn
}

func (h *hold) UpdateClientConnState(s balancer.ClientConnState) error {
	if c, ok := s.BalancerConfig.(*holdConfig); ok {
		h.conn.configure(*c)
	}
	s.BalancerConfig = nil // the other policy would not know it
	return h.Balancer.UpdateClientConnState(s)
}

func (h *hold) Close() {
	h.conn.close()
	h.Balancer.Close()
}

// heldConn is the channel as pick_first sees it.
type heldConn struct {
	balancer.ClientConn

	mu     sync.Mutex
	config holdConfig
	worked bool           // there has been a connection since failures were last let through
	timer  *time.Timer    // runs while failures are held back
	held   balancer.State // the newest of them
	closed bool
}

func (c *heldConn) configure(config holdConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.config = config
}

// UpdateState hands a state on; it does so under the lock, so that states arrive in order.
func (c *heldConn) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s.ConnectivityState {
	case connectivity.Ready:
		c.stop()
		c.worked = true
	case connectivity.TransientFailure:
		s.Picker = away{c.config.Address, s.Picker}
		if c.worked && c.config.Grace > 0 {
			c.hold(s)
			s = balancer.State{ConnectivityState: connectivity.Connecting, Picker: waiting{s.Picker}}
		}
	}
	c.ClientConn.UpdateState(s)
}

func (c *heldConn) hold(s balancer.State) {
	c.held = s
	if c.timer == nil && !c.closed {
		c.timer = time.AfterFunc(c.config.Grace, c.release)
	}
}

func (c *heldConn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil || c.closed { // it is back already
		return
	}
	c.timer, c.worked = nil, false
	c.ClientConn.UpdateState(c.held)
}

func (c *heldConn) stop() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

func (c *heldConn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.stop()
}

// waiting lets calls wait for the next state, but for those that have somewhere else to go.
type waiting struct{ balancer.Picker }

func (w waiting) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	if info.Ctx != nil && info.Ctx.Value(elsewhere{}) != nil {
		return w.Picker.Pick(info)
	}
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// elsewhere marks calls that can do without the sidecar.
type elsewhere struct{}

// away fails calls with what the picker of pick_first would fail them with, told well.
type away struct {
	address string
	balancer.Picker
}

func (a away) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := a.Picker.Pick(info)
	if err == nil || errors.Is(err, balancer.ErrNoSubConnAvailable) {
		return result, err
	}
	return result, sidecarAway(a.address, plain(err))
}

func sidecarAway(address string, why error) error {
	return madeHere(codes.Unavailable, ReasonSidecarUnavailable, awayFrom(address)+why.Error(), time.Second)
}

func awayFrom(address string) string { return "the sidecar at " + address + " is away: " }
