package etcdconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// How the member that is used is looked after. A frozen one is left after probeEvery and probeTime at most.
const (
	probeEvery = time.Second
	probeTime  = 2 * time.Second
	leaderless = 3 * time.Second        // after which a member without a leader is left: an election has ended by then
	stagger    = 200 * time.Millisecond // between tries of members
)

// maxSend is the largest request in bytes; what etcd takes is its own --max-request-bytes.
const maxSend = 8 << 20

// Conn is an etcd that many callers use at once. Safe for concurrent use.
type Conn struct {
	options Options
	tls     *tls.Config
	where   string // for errors
	log     *slog.Logger
	stop    context.CancelFunc
	loop    sync.WaitGroup
	first   int // of the addresses; of the loop

	mu      sync.Mutex
	member  *Member       // that is used; nil: none
	down    error         // why there is none; nil: that is being found out
	changed chan struct{} // closed and replaced when these two change
}

// Member is the connection to one member. Its client must not be closed.
type Member struct {
	Client *clientv3.Client

	address string
	serves  atomic.Bool // from then on it has this one connection
	lost    atomic.Bool
	probes  chan struct{} // holds one: look now
	cancel  context.CancelFunc
	renewals
}

// Open answers the connection that the instances with these options share, once a member has answered. Who opens it calls release.
func Open(ctx context.Context, env components.Env, o Options) (conn *Conn, release func(), err error) {
	return components.Share(ctx, env.Shared, o.key(), func(ctx context.Context) (*Conn, error) {
		c := &Conn{options: o, where: "etcd " + strings.Join(o.Addresses, ","), log: env.Logger, first: rand.N(len(o.Addresses)),
			changed: make(chan struct{})}
		if c.tls, err = o.TLS.Config(); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, o.Timeout)
		defer cancel()
		m, err := c.connect(ctx)
		if err != nil {
			return nil, err
		}
		running, stop := context.WithCancel(context.Background())
		c.stop = stop
		c.set(m, nil)
		c.loop.Go(func() { c.run(running, m) })
		return c, nil
	}, (*Conn).close)
}

func (c *Conn) close() {
	c.stop()
	c.loop.Wait()
}

// Where names the server in errors.
func (c *Conn) Where() string { return c.where }

func (c *Conn) set(m *Member, down error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.member, c.down = m, down
	close(c.changed)
	c.changed = make(chan struct{})
}

// Member answers the member that is used. While the one before is replaced it waits; when none answers it fails at once.
func (c *Conn) Member(ctx context.Context) (*Member, error) {
	for {
		c.mu.Lock()
		m, down, changed := c.member, c.down, c.changed
		c.mu.Unlock()
		switch {
		case m != nil:
			return m, nil
		case down != nil:
			return nil, down
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// run replaces a member that is away, until stop.
func (c *Conn) run(ctx context.Context, m *Member) {
	wait := backend.Backoff{First: 50 * time.Millisecond, Most: time.Second}
	for {
		if m != nil {
			why := c.watch(ctx, m)
			c.set(nil, nil)
			c.end(m)
			c.first = (c.first + 1) % len(c.options.Addresses)
			if ctx.Err() == nil {
				c.log.Warn("an etcd member is left", "address", m.address, "err", why)
			}
		} else if wait.Wait(ctx) != nil {
			return
		}
		limit, cancel := context.WithTimeout(ctx, c.options.Timeout)
		found, err := c.connect(limit)
		cancel()
		if ctx.Err() != nil {
			if found != nil {
				c.end(found)
			}
			c.set(nil, fmt.Errorf("%w: the component is closed", components.ErrUnavailable))
			return
		}
		if m = found; m != nil {
			wait.Reset()
			c.log.Info("an etcd member is used", "address", m.address)
		}
		c.set(m, err)
	}
}

// watch answers why a member should not be used any more.
func (c *Conn) watch(ctx context.Context, m *Member) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var without time.Time // since when it has had no leader
	for {
		select {
		case <-tick.C:
		case <-m.probes:
		case <-ctx.Done():
			return ctx.Err()
		}
		if m.lost.Load() {
			return errLost
		}
		err := m.probe(ctx)
		switch {
		case err == nil:
			without = time.Time{}
		case !errors.Is(err, errNoLeader):
			return err
		case without.IsZero():
			without = time.Now()
		case time.Since(without) > leaderless && len(c.options.Addresses) > 1:
			return err
		}
	}
}

// look has the member probed soon.
func (m *Member) look() {
	select {
	case m.probes <- struct{}{}:
	default:
	}
}

// connect tries all members, one after the other and together, and answers the first that serves.
func (c *Conn) connect(ctx context.Context) (*Member, error) {
	type result struct {
		i   int
		m   *Member
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	n := len(c.options.Addresses)
	results := make(chan result, n)
	for k := range n {
		i := (c.first + k) % n
		go func() {
			if pause(ctx, time.Duration(k)*stagger) != nil {
				results <- result{i: i, err: c.told(ctx, c.options.Addresses[i], ctx.Err())}
				return
			}
			m, err := c.try(ctx, c.options.Addresses[i])
			results <- result{i, m, err}
		}()
	}
	var found *Member
	faults := make([]error, n)
	for range n {
		r := <-results
		switch {
		case r.m == nil:
			faults[r.i] = r.err
		case found == nil:
			found, c.first = r.m, r.i
			cancel()
		default:
			c.end(r.m)
		}
	}
	cancel()
	if found != nil {
		return found, nil
	}
	c.first = (c.first + 1) % n
	return nil, worst(faults)
}

// worst is the error that tells most: one who refuses before one who is away.
func worst(faults []error) error {
	for _, err := range faults {
		if refused(err) {
			return err
		}
	}
	return faults[0]
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try connects to one member and sees whether it serves.
func (c *Conn) try(ctx context.Context, address string) (*Member, error) {
	m := &Member{address: address, probes: make(chan struct{}, 1)}
	living, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	stop := context.AfterFunc(ctx, cancel)
	config := clientv3.Config{Context: living, Endpoints: []string{address}, TLS: c.tls, Username: c.options.User, Password: c.options.Password.Reveal(),
		DialTimeout: probeTime, MaxCallSendMsgSize: maxSend, MaxUnaryRetries: 2, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(m.dial)}}
	if c.tls != nil && config.Username != "" {
		if err := reached(ctx, config); err != nil && kindOf(err) != refusal {
			cancel()
			return nil, c.told(ctx, address, err)
		}
	}
	client, err := clientv3.New(config)
	if err != nil {
		cancel()
		return nil, c.told(ctx, address, err)
	}
	m.Client = client
	if err := m.probe(ctx); err != nil || !stop() {
		c.end(m)
		return nil, c.told(ctx, address, errors.Join(err, ctx.Err()))
	}
	m.serves.Store(true)
	return m, nil
}

var errLost = errors.New("the connection was lost")

// dial connects once. The library would connect again by itself, and go on with its watches, be it at an etcd that was restored meanwhile.
func (m *Member) dial(ctx context.Context, address string) (net.Conn, error) {
	if m.serves.Load() {
		m.lost.Store(true)
		m.look()
		return nil, errLost
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// reached is why a member cannot be reached by anybody. Of a sign-in for which there is no connection the client says, late, that there was no answer, and
// nothing of certificates.
func reached(ctx context.Context, config clientv3.Config) error {
	config.Username, config.Password = "", ""
	client, err := clientv3.New(config)
	if err != nil {
		return err
	}
	defer client.Close()
	return (&Member{Client: client}).probe(ctx)
}

func (c *Conn) told(ctx context.Context, address string, err error) error {
	if kindOf(err) == refusal {
		return backend.Refused("etcd "+address, err)
	}
	return backend.Unreachable(context.WithoutCancel(ctx), "etcd "+address, err)
}

var errNoLeader = errors.New("it has no leader")

// probe asks a member, over the connection that is used, whether it would serve.
func (m *Member) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	status, err := etcdserverpb.NewMaintenanceClient(m.Client.ActiveConnection()).Status(ctx, &etcdserverpb.StatusRequest{})
	if err == nil && status.Leader == 0 {
		err = errNoLeader
	}
	return err
}

// end closes a member, which ends all calls of it.
func (c *Conn) end(m *Member) {
	m.cancel()
	_ = m.Client.Close()
}
