package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Client is a connection to the sidecar, for as long as the application runs.
type Client struct {
	cc     *grpc.ClientConn
	at     atomic.Pointer[Candidate] // where the sidecar was found; nil: nowhere yet, and look does so
	look   func(context.Context) (*Candidate, error)
	still  func(context.Context, *Candidate) error // before a place is connected to again
	proven atomic.Bool                             // it has been seen whose sidecar is there
	log    *slog.Logger
	token  *token
	direct directs
	tasks  sync.WaitGroup // of stay

	dialFailure atomic.Pointer[error] // of the last try to connect; nil after one that went well
	done        chan struct{}         // closed by Close
	close       func() error
}

// Dial finds the sidecar, see the package comment, and connects to it. It fails with ErrNoSidecar if none answers before ctx
// ends, or with WithWait goes on looking until then, unless what it was told is no address. Where ctx has no deadline each place is given 5 s. The client does not end
// with ctx.
func Dial(ctx context.Context, opts ...Option) (*Client, error) {
	o := newOptions(opts)
	d, err := newDirects(o)
	if err != nil {
		return nil, err
	}
	if d != nil {
		return dialEither(ctx, o, d)
	}
	var last *noSidecar
	for pause := (backoff{}); ; {
		c, tried := find(ctx, o)
		if c != nil {
			return c, nil
		}
		// A try that the context cut short knows less of the reason than the one before.
		if last == nil || ctx.Err() == nil {
			last = &noSidecar{tried: tried}
		}
		if !o.wait || !slices.ContainsFunc(tried, func(c Candidate) bool { return !c.never }) {
			return nil, last
		}
		if !sleep(ctx, nil, pause.next()) {
			last.ended = ctx.Err()
			return nil, last
		}
	}
}

// newClient makes one for a place; nil: for one that is found when it connects.
func newClient(at *Candidate, o *options) (*Client, error) {
	c := &Client{log: o.logger, token: newToken(o), done: make(chan struct{}), still: o.still}
	t, authority := target{"tcp", "a place that is not known yet"}, "localhost"
	if at != nil {
		t, authority = at.target, at.target.authority()
		c.at.Store(at)
	}
	config, err := serviceConfig(t, o.grace)
	if err != nil {
		return nil, err
	}
	c.cc, err = grpc.NewClient("passthrough:///sidecar", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(c.token),
		grpc.WithContextDialer(c.connect),
		grpc.WithAuthority(authority),
		grpc.WithUserAgent("outrigger-go"),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(config),
		// The sidecar is near: what counts is to see soon that it is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: firstPause, Multiplier: pauseGrowth, Jitter: pauseJitter, MaxDelay: lastPause},
			MinConnectTimeout: 5 * time.Second,
		}),
		// For a sidecar that is frozen. Only with calls under way; it takes a PING a second.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}, append(slices.Clone(o.dial),
		// Else gRPC would make the policy anew after half an hour without a call, and that would not know that there has been a sidecar to wait for.
		grpc.WithIdleTimeout(0),
	)...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t, err)
	}
	c.close = sync.OnceValue(func() error {
		close(c.done)
		err := errors.Join(c.cc.Close(), c.direct.close())
		c.tasks.Wait()
		return err
	})
	return c, nil
}

// connect is how gRPC dials, again after each loss of the connection.
func (c *Client) connect(ctx context.Context, _ string) (net.Conn, error) {
	conn, at, err := c.reach(ctx)
	if err != nil {
		c.dialFailure.Store(&err)
		return nil, err
	}
	c.dialFailure.Store(nil)
	c.token.refresh(conn, at.named)
	return conn, nil
}

func (c *Client) reach(ctx context.Context) (net.Conn, *Candidate, error) {
	at := c.at.Load()
	var err error
	switch {
	case at == nil:
		at, err = c.look(ctx)
	case c.proven.Load():
		err = c.still(ctx, at)
	}
	if err != nil {
		return nil, nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, at.target.network, at.target.address)
	if err == nil && c.at.CompareAndSwap(nil, at) {
		c.proven.Store(true)
	}
	return conn, at, err
}

// Address is where the sidecar was found: HOST:PORT or unix:PATH; empty while there has been none (see WithDirect).
func (c *Client) Address() string {
	if at := c.at.Load(); at != nil {
		return at.target.String()
	}
	return ""
}

// App is NAMESPACE/APP as the sidecar said when it was found; empty if it did not.
func (c *Client) App() string {
	if at := c.at.Load(); at != nil {
		return at.App
	}
	return ""
}

// Close ends calls and watches with ErrClosed, and the connection. It may be called more than once.
func (c *Client) Close() error { return c.close() }

func (c *Client) closed() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Wait returns when the sidecar is connected, which it does at once unless the sidecar has gone away. It fails with
// ErrUnavailable when ctx ends before, and with ErrClosed.
func (c *Client) Wait(ctx context.Context) error {
	for {
		state := c.cc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Shutdown:
			return ErrClosed
		case connectivity.Idle:
			c.cc.Connect()
		}
		if !c.cc.WaitForStateChange(ctx, state) {
			return sidecarAway(c.Address(), c.whyAway(ctx.Err()))
		}
	}
}

// whyAway is the last failure to connect, if there is one.
func (c *Client) whyAway(otherwise error) error {
	if dial := c.dialFailure.Load(); dial != nil {
		return plain(*dial)
	}
	return otherwise
}

// API is the connection for generated stubs of the sidecar's own services, those that have no method here:
//
//	cachev1.NewCacheClient(c.API())
//
// Size limits of messages are the sidecar's.
func (c *Client) API() grpc.ClientConnInterface {
	return conn{c: c, opts: []grpc.CallOption{grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)}}
}

// Conn is the connection for generated stubs of another application's services, all four kinds of calls:
//
//	pb.NewStockClient(c.Conn("stock"))
//
// The service is NAME, or NAMESPACE/NAME of another namespace. Status, details, headers and trailers arrive as the application sent them.
func (c *Client) Conn(service string) grpc.ClientConnInterface {
	return conn{c: c, service: service, direct: c.direct[service]}
}
