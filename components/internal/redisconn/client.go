package redisconn

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/outrigger-mesh/outrigger/components"
)

// perServer is how many pipelines of a kind may be under way to one server at once, each with a connection: with more, one that is
// slow leaves another to the rest, but there is less to put together.
const perServer = 2

// Client is a Redis that many callers use at once. Safe for concurrent use.
type Client struct {
	options Options
	where   string // for errors
	redis   redis.UniversalClient
	cluster *redis.ClusterClient // nil unless in mode cluster

	replicated atomic.Bool // one that has not got all that was acknowledged may become primary

	lanes sync.Map // of a server and a kind: *lane
	work  sync.WaitGroup

	blocking sync.Mutex
	waits    redis.UniversalClient // for commands that wait; nil until it is asked for
}

// Open answers the client that the instances with these options share, after the server has answered it. Who opens it calls release.
func Open(ctx context.Context, env components.Env, o Options) (client *Client, release func(), err error) {
	quiet()
	return components.Share(ctx, env.Shared, o.key(), func(ctx context.Context) (*Client, error) {
		c, err := o.client()
		if err != nil {
			return nil, err
		}
		if err = c.Check(ctx); err == nil {
			err = c.look(ctx)
		}
		if err != nil {
			c.close()
			return nil, c.named(ctx, err)
		}
		return c, nil
	}, (*Client).close)
}

// quiet takes the library's log away from standard error: what it says there comes to callers as errors.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// key is the same for equal options only. It holds no secret that could be read.
func (o Options) key() any {
	secrets := sha256.Sum256([]byte(fmt.Sprintf("%q %q", o.Password.Reveal(), o.SentinelPassword.Reveal())))
	return struct{ kind, options string }{"redis", fmt.Sprintf("%+v %x", o, secrets)}
}

func (o Options) client() (*Client, error) {
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	c := &Client{options: o, where: "redis " + strings.Join(o.Addresses, ","), redis: redis.NewUniversalClient(u)}
	c.cluster, _ = c.redis.(*redis.ClusterClient)
	c.replicated.Store(o.Mode == Sentinel)
	return c, nil
}

func (o Options) universal() (*redis.UniversalOptions, error) {
	tls, err := o.TLS.Config()
	if err != nil {
		return nil, err
	}
	return &redis.UniversalOptions{
		Addrs: o.Addresses, MasterName: o.Master, IsClusterMode: o.Mode == Cluster, DB: o.DB, Dialer: newDialer(tls, o.Timeout).Dial,
		Username: o.User, Password: o.Password.Reveal(), SentinelUsername: o.SentinelUser, SentinelPassword: o.SentinelPassword.Reveal(),
		DialTimeout: o.Timeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, PoolTimeout: o.Timeout, ContextTimeoutEnabled: true,
		Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PoolSize: 2 * perServer, PipelinePoolSize: -1, // pipelines use the pool itself
		MaxRetries: -1, DialerRetries: 1, // what was sent may have been done: the caller decides
	}, nil
}

// Blocking is a client for commands that wait at the server, such as XREAD with BLOCK: each holds a connection of its own, up to
// most. The first caller's most counts.
func (c *Client) Blocking(most int) (redis.UniversalClient, error) {
	c.blocking.Lock()
	defer c.blocking.Unlock()
	if c.waits == nil {
		u, err := c.options.universal()
		if err != nil {
			return nil, err
		}
		u.PoolSize = most
		c.waits = redis.NewUniversalClient(u)
	}
	return c.waits, nil
}

// Mode is what stands at the addresses.
func (c *Client) Mode() Mode { return c.options.Mode }

// Where names the server in errors.
func (c *Client) Where() string { return c.where }

// Redis is the client of the library. A command that goes through it goes alone, and its errors are for Err.
func (c *Client) Redis() redis.UniversalClient { return c.redis }

// Check asks every primary whether it is there, and those of a cluster whether they have replicas, which may come at any time.
func (c *Client) Check(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	return c.Err(ctx, Read, c.primaries(bounded, func(ctx context.Context, node *redis.Client) error {
		if c.cluster == nil {
			return node.Ping(ctx).Err()
		}
		text, err := node.Info(ctx, "replication").Result()
		if strings.Contains(text, "\nslave0:") {
			c.replicated.Store(true)
		}
		return err
	}))
}

// close waits for what is under way, which the timeout bounds.
func (c *Client) close() {
	c.work.Wait()
	_ = c.redis.Close()
	if c.waits != nil {
		_ = c.waits.Close()
	}
}
