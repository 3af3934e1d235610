package nacosconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Modules that a client is for: the server keeps instances only for those of naming.
const (
	Config = "config"
	Naming = "naming"
)

// Handler is told what comes without being asked for.
type Handler interface {
	// Connected is called in a goroutine of its own each time there is a new connection: the server knows nothing of what was asked of
	// the one before. ctx ends with the connection.
	Connected(ctx context.Context)
	// Pushed is called with what the server sends, one after the other; it does not wait.
	Pushed(kind string, body []byte)
}

// Client keeps one connection to one of the servers. It is safe for concurrent use.
type Client struct {
	options Options
	module  string
	log     *slog.Logger
	handler Handler
	door    *door
	work    sync.WaitGroup
	stop    context.CancelFunc

	mu      sync.Mutex
	session *session // nil: there is none
	why     error    // that there is none
	closed  bool
}

// errFirst is that the client has not yet tried.
var errFirst = errors.New("it is being connected")

// lasting is how long a connection must hold for the next to be tried at once when it is lost.
const lasting = 5 * time.Second

// backoff is short: what is registered is gone meanwhile, and a server that comes back is to be used at once.
func newBackoff() *backend.Backoff {
	return &backend.Backoff{First: 100 * time.Millisecond, Most: 2 * time.Second}
}

// openTime is how long a start waits, however many servers there are.
const openTime = 4 * time.Second

// Open connects. When it does not succeed at once, err says why, and the client tries on in the background if there is one: it is nil
// where that could not help.
func Open(ctx context.Context, log *slog.Logger, module string, o Options, h Handler) (*Client, error) {
	door, err := newDoor(o)
	if err != nil {
		return nil, err
	}
	c := &Client{options: o, module: module, log: log, handler: h, door: door,
		why: backend.Unreachable(context.Background(), "nacos "+strings.Join(o.Addresses, ","), errFirst)}
	live, stop := context.WithCancel(context.Background())
	c.stop = stop
	first := make(chan error, 1)
	c.work.Go(func() { c.run(live, first) })
	select {
	case err = <-first:
	case <-time.After(openTime):
		_, err = c.current()
	case <-ctx.Done():
		err = ctx.Err()
	}
	return c, err
}

// Go runs what nobody waits for but Close. It does nothing once that has been called.
func (c *Client) Go(work func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.work.Go(work)
	}
}

// Close ends all of it, and waits for that.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.work.Wait()
	c.door.close()
}

func (c *Client) run(ctx context.Context, first chan<- error) {
	wait := newBackoff()
	for ctx.Err() == nil {
		s, err := c.connect(ctx)
		c.set(s, err)
		select {
		case first <- err:
		default:
		}
		if err != nil {
			_ = wait.Wait(ctx)
			continue
		}
		since := time.Now()
		c.work.Go(func() { c.handler.Connected(s.ended) })
		s.beat(ctx)
		err = context.Cause(s.ended)
		s.close()
		c.set(nil, backend.Unreachable(context.Background(), "nacos "+s.address, err))
		if ctx.Err() == nil {
			c.log.Warn("connection to nacos lost", "address", s.address, "err", err)
		}
		if time.Since(since) > lasting {
			wait.Reset()
		}
		_ = wait.Wait(ctx)
	}
}

// connect tries each server once, beginning with any. One that refuses the login speaks for all.
func (c *Client) connect(ctx context.Context) (*session, error) {
	all := slices.Clone(c.options.Addresses)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var faults error
	for _, address := range all {
		_, err := c.login(ctx, address)
		if isRefused(err) {
			return nil, err
		}
		if err == nil {
			var s *session
			if s, err = connect(ctx, c, address); err == nil {
				return s, nil
			}
		}
		if faults == nil {
			faults = err
		} else {
			faults = fmt.Errorf("%w; %w", faults, err)
		}
	}
	return nil, faults
}

func (c *Client) login(ctx context.Context, address string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	token, err := c.door.fresh(limited, address)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = backend.Unreachable(ctx, "nacos "+address, err)
	}
	return token, err
}

func (c *Client) set(s *session, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.why = s, why
}

func (c *Client) current() (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session, c.why
}

// Read asks a question that changes nothing, and reads the answer into out, which may be nil.
func (c *Client) Read(ctx context.Context, r Request, out any) error {
	return c.call(ctx, r, out, false)
}

// Write asks for a change. If its outcome is not known, the error says so.
func (c *Client) Write(ctx context.Context, r Request) error {
	return c.call(ctx, r, nil, true)
}

func (c *Client) call(ctx context.Context, r Request, out any, write bool) error {
	s, why := c.current()
	if s == nil {
		return why
	}
	limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	for {
		token, err := c.login(limited, s.address)
		if err != nil {
			return over(ctx, err)
		}
		err = s.ask(limited, headers(token), r, out)
		var told *Told
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &told):
			return failed(ctx, s.address, write, err)
		case told.Code == codeDenied && c.door.denied(token):
			continue
		case told.Code == codeUnregistered:
			s.end(told) // the server has forgotten the connection
		}
		return told.kind(s.address)
	}
}

func headers(token string) map[string]string {
	h := map[string]string{"charset": "utf-8"}
	if token != "" {
		h["accessToken"] = token
	}
	return h
}

// over is ctx's error if that has ended, else err.
func over(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Get asks the HTTP interface of the server that the client is connected to, and reads its JSON into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	s, why := c.current()
	if s == nil {
		return why
	}
	limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	for {
		token, err := c.login(limited, s.address)
		if err != nil {
			return over(ctx, err)
		}
		in, err := http.NewRequestWithContext(limited, http.MethodGet, c.door.url(s.address, path)+"?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		if token != "" {
			in.Header.Set("Authorization", "Bearer "+token)
		}
		if err = c.door.do(limited, in, s.address, path, out); err == nil {
			return nil
		}
		if isRefused(err) && c.door.denied(token) {
			continue
		}
		if limited.Err() != nil {
			err = backend.Unreachable(ctx, "nacos "+s.address, err)
		}
		return over(ctx, err)
	}
}

func isRefused(err error) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == backend.ReasonRefused
}

// Check asks the server whether it is there.
func (c *Client) Check(ctx context.Context) error {
	return c.Read(ctx, healthCheck{}, nil)
}

// Where is what errors name that are of no single server.
func (c *Client) Where() string { return "nacos " + strings.Join(c.options.Addresses, ",") }

// Closed is what is answered once it is closed.
func Closed() error { return fmt.Errorf("%w: the component is closed", components.ErrUnavailable) }
