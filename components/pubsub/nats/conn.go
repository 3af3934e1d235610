package nats

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	library "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// conn is what instances with the same options share: a connection to write and to ask by, and another one to read by, behind which
// nobody waits.
type conn struct {
	opts    Options
	where   string // for errors
	out, in *library.Conn
	js      jetstream.JetStream

	mu       sync.Mutex
	denial   error // the last thing that the server has not permitted
	deniedAt time.Time
	topics   map[string]*topic
	making   sync.Mutex // of streams: one at a time
}

// key is the same for equal connections only. It holds no secret that could be read.
func (o Options) key() any {
	secret := sha256.Sum256([]byte(o.Password.Reveal() + "\x00" + o.Token.Reveal()))
	return struct{ kind, options string }{"nats", fmt.Sprintf("%q %+v %q %q %q %x %s %q %d %d %s %s %s %v", o.Addresses, o.TLS, o.User, o.NKey, o.Creds, secret,
		o.Timeout, o.Prefix, o.Parts, o.Replicas, o.Retention, o.Idempotency, o.Heartbeat, o.AllowLoss)}
}

// connect opens the connections, and sees that there is JetStream with room for what groups keep.
func (o Options) connect(ctx context.Context) (*conn, error) {
	c := &conn{opts: o, where: "nats " + strings.Join(o.Addresses, ","), topics: map[string]*topic{}}
	settings, err := c.settings()
	if err != nil {
		return nil, err
	}
	for _, one := range []**library.Conn{&c.out, &c.in} {
		*one, err = backend.Within(ctx, func() (*library.Conn, error) {
			return library.Connect("nats://"+strings.Join(o.Addresses, ",nats://"), settings...)
		}, shut)
		if errors.Is(err, library.ErrNoServers) {
			err = o.why(ctx, err)
		}
		if err != nil {
			c.close()
			return nil, c.failed(ctx, time.Now(), err)
		}
	}
	if c.js, err = jetstream.New(c.out, jetstream.WithDefaultTimeout(o.Timeout), jetstream.WithPublishAsyncMaxPending(64<<10), jetstream.WithPublishAsyncTimeout(4*o.Timeout)); err == nil {
		err = c.makeGroups(ctx)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// why is what each address has against being dialled, which the library does not tell.
func (o Options) why(ctx context.Context, unknown error) error {
	var errs []error
	for _, address := range o.Addresses {
		nc, err := (&net.Dialer{Timeout: o.Timeout}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = nc.Close()
			return unknown
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func shut(nc *library.Conn) error { nc.Close(); return nil }

func (c *conn) settings() ([]library.Option, error) {
	o := c.opts
	tls, err := o.TLS.Config()
	if err != nil {
		return nil, err
	}
	all := []library.Option{
		library.Name("outrigger"), library.Timeout(o.Timeout), library.MaxReconnects(-1), library.IgnoreAuthErrorAbort(), library.ReconnectBufSize(-1),
		library.PingInterval(o.Timeout), library.MaxPingsOutstanding(1), library.FlusherTimeout(o.Timeout),
		library.CustomReconnectDelay(func(tries int) time.Duration {
			b := backend.Backoff{First: 50 * time.Millisecond << min(tries, 5), Most: time.Second}
			return b.Next()
		}),
		library.ErrorHandler(func(_ *library.Conn, _ *library.Subscription, err error) {
			if errors.Is(err, library.ErrPermissionViolation) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.denial, c.deniedAt = err, time.Now()
			}
		}),
	}
	if tls != nil {
		all = append(all, library.Secure(tls))
	}
	switch {
	case o.User != "":
		all = append(all, library.UserInfo(o.User, o.Password.Reveal()))
	case o.Token != "":
		all = append(all, library.Token(o.Token.Reveal()))
	case o.Creds != "":
		all = append(all, library.UserCredentials(o.Creds))
	case o.NKey != "":
		one, err := library.NkeyOptionFromSeed(o.NKey)
		if err != nil {
			return nil, fmt.Errorf("nkey: %w", err)
		}
		all = append(all, one)
	}
	return all, nil
}

func (c *conn) close() {
	for _, nc := range []*library.Conn{c.out, c.in} {
		if nc != nil {
			nc.Close()
		}
	}
}

// call does something that the server answers, within its time.
func (c *conn) call(ctx context.Context, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	began := time.Now()
	return c.failed(ctx, began, do(limited))
}

// noCluster is what a single server answers that is to keep several copies.
const noCluster jetstream.ErrorCode = 10074

// What JetStream answers where streams cannot be as they are to be.
var impossible = []jetstream.ErrorCode{jetstream.JSErrCodeJetStreamNotEnabled, jetstream.JSErrCodeJetStreamNotEnabledForAccount, jetstream.JSErrCodeStreamNameInUse,
	10005 /* no suitable peers */, noCluster, 10052 /* the configuration is not valid */, 10065 /* subjects overlap */, 10047 /* no storage left */, 10023 /* no resources left */}

// failed says of a call that began then, and came to nothing, what its caller can do.
func (c *conn) failed(ctx context.Context, began time.Time, err error) error {
	var answer *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, components.ErrUnavailable), errors.Is(err, components.ErrPrecondition): // says so already
		return err
	case errors.Is(err, library.ErrAuthorization), errors.Is(err, library.ErrAuthExpired), errors.Is(err, library.ErrAccountAuthExpired):
		return backend.Refused(c.where, err)
	case errors.As(err, &answer) && answer.ErrorCode == noCluster:
		return fmt.Errorf("%w: %s: %w: a single server needs replicas: 1, with synced: true or allow_loss: true", components.ErrPrecondition, c.where, err)
	case errors.As(err, &answer):
		for _, code := range impossible {
			if answer.ErrorCode == code {
				return fmt.Errorf("%w: %s: %w", components.ErrPrecondition, c.where, err)
			}
		}
	}
	if denial := c.denied(began); denial != nil {
		return backend.Refused(c.where, denial)
	}
	return backend.Unreachable(ctx, c.where, err)
}

// denied is what was not permitted since then; nil: nothing.
func (c *conn) denied(since time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deniedAt.Before(since) {
		return nil
	}
	return c.denial
}
