package zookeeper

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// driver is one session after the other of one connection of the library's, which looks for another server by itself.
type driver struct {
	options Options
	where   string // for errors
	log     *slog.Logger
	conn    *zk.Conn
	events  <-chan zk.Event // closed when the connection has ended
	acl     []zk.ACL
	loop    sync.WaitGroup

	ended   context.Context
	end     context.CancelFunc
	closing sync.Once

	mu      sync.Mutex
	up      bool          // there is a session, and a server
	session int64         // the last one
	changed chan struct{} // closed and replaced when these do
	why     error         // of the last try to connect
	plain   net.Conn      // the last connection
	tried   chan struct{} // closed when all servers have failed

	published
	lists
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)

	errClosed = fmt.Errorf("%w: the component is closed", components.ErrUnavailable)
)

// connect begins to look for a server.
func connect(env components.Env, o Options) (*driver, error) {
	config, err := o.TLS.Config()
	if err != nil {
		return nil, err
	}
	d := &driver{options: o, where: "zookeeper " + strings.Join(o.Addresses, ","), log: env.Logger, acl: zk.WorldACL(zk.PermAll), changed: make(chan struct{}), tried: make(chan struct{}),
		published: published{holder: rand.Text(), busy: make(chan struct{}, 1), own: map[place]owned{}, stray: map[string]bool{}},
		lists:     lists{all: map[string]*list{}}}
	if o.User != "" {
		d.acl = zk.AuthACL(zk.PermAll)
	}
	d.ended, d.end = context.WithCancel(context.Background())
	dial := &dialer{driver: d, tls: config, wait: backend.Backoff{First: 50 * time.Millisecond, Most: 2 * time.Second},
		allTried: sync.OnceFunc(func() { close(d.tried) })}
	d.conn, d.events, err = zk.Connect(o.Addresses, o.Session, zk.WithDialer(dial.dial), zk.WithHostProvider(dial), zk.WithLogger(quiet{env.Logger}),
		zk.WithLogInfo(false), zk.WithEventCallback(d.heard))
	if err != nil {
		d.end()
		return nil, err
	}
	return d, nil
}

// begin waits for the first session, and not longer than until every server has been tried.
func (d *driver) begin(ctx context.Context) error {
	for {
		session, changed := d.state()
		if session != 0 {
			break
		}
		select {
		case <-changed:
		case <-d.tried:
			return backend.Unreachable(ctx, d.where, d.fault())
		case <-ctx.Done():
			return backend.Unreachable(context.WithoutCancel(ctx), d.where, errNoAnswer)
		}
	}
	if d.options.User != "" { // the library tells it to each server from now on
		err := d.do(ctx, func(conn *zk.Conn) error {
			return conn.AddAuth("digest", []byte(d.options.User+":"+d.options.Password.Reveal()))
		})
		if err != nil {
			return err
		}
	}
	return d.mkdir(ctx)
}

// mkdir makes the node that all are below, and those above it.
func (d *driver) mkdir(ctx context.Context) error {
	return d.do(ctx, func(conn *zk.Conn) error { return mkdirs(conn, d.options.Prefix, d.acl) })
}

// mkdirs makes a node that stays, and those above it.
func mkdirs(conn *zk.Conn, folder string, acl []zk.ACL) error {
	path := ""
	for _, part := range strings.Split(folder, "/")[1:] {
		path += "/" + part
		there, _, err := conn.Exists(path)
		if err == nil && !there {
			_, err = conn.Create(path, nil, zk.FlagPersistent, acl)
		}
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// Close ends the session, and with it the records and the watches.
func (d *driver) Close(context.Context) error {
	d.closing.Do(func() {
		d.end()
		d.loop.Wait()
		d.conn.Close()
		d.mu.Lock()
		if d.plain != nil {
			d.plain.Close() // or the library may wait for an answer
		}
		d.mu.Unlock()
		for range d.events {
		}
		d.following.Wait()
	})
	return nil
}

// heard is told by the library what becomes of the session, and of what is watched. It must not wait.
func (d *driver) heard(e zk.Event) {
	switch e.Type {
	case zk.EventNodeDataChanged, zk.EventNodeDeleted, zk.EventNotWatching:
		d.outdate(e.Path)
		return
	case zk.EventSession:
	default:
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before, lost := d.up, d.session
	if d.up = e.State == zk.StateHasSession; d.up {
		d.session = d.conn.SessionID()
	}
	if d.up == before {
		return
	}
	switch {
	case !d.up:
		d.log.Warn("the connection to zookeeper is lost")
	case lost == 0 || lost == d.session:
		d.log.Info("zookeeper is reached", "address", e.Server)
	default:
		d.log.Warn("zookeeper is reached in a new session", "address", e.Server)
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// state is the session, 0 if there is none now, and what is closed when that changes.
func (d *driver) state() (session int64, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.up {
		session = d.session
	}
	return session, d.changed
}

// fault is why there is no session.
func (d *driver) fault() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.why == nil {
		return errors.New("the connection is lost")
	}
	return d.why
}

// call has do called while there is a session; without one it fails at once. Do goes on for a while when ctx has ended: the library
// knows no contexts, but the connection ends when the server does not answer.
func call[T any](ctx context.Context, d *driver, do func(*zk.Conn) (T, error)) (got T, err error) {
	if session, _ := d.state(); session == 0 {
		return got, backend.Unreachable(ctx, d.where, d.fault())
	}
	limited, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	type result struct {
		got T
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.got, r.err = do(d.conn)
		done <- r
	}()
	select {
	case r := <-done:
		return r.got, d.told(ctx, r.err)
	case <-limited.Done():
		return got, backend.Unreachable(ctx, d.where, errNoAnswer)
	case <-d.ended.Done():
		return got, errClosed
	}
}

var errNoAnswer = errors.New("no answer")

// do is call without an answer.
func (d *driver) do(ctx context.Context, do func(*zk.Conn) error) error {
	_, err := call(ctx, d, func(conn *zk.Conn) (struct{}, error) { return struct{}{}, do(conn) })
	return err
}

func (d *driver) told(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, zk.ErrNoAuth), errors.Is(err, zk.ErrAuthFailed), errors.Is(err, zk.ErrInvalidACL):
		return backend.Refused(d.where, err)
	case errors.Is(err, zk.ErrConnectionClosed), errors.Is(err, zk.ErrNoServer), errors.Is(err, zk.ErrSessionExpired), errors.Is(err, zk.ErrSessionMoved),
		errors.Is(err, zk.ErrClosing):
		return backend.Unreachable(ctx, d.where, err)
	}
	return err
}

// dialer chooses servers and connects to them, as the library asks. The library's own sends requests to addresses that were looked up
// once, does not speak TLS, and waits ten times as long for a server that is frozen.
type dialer struct {
	*driver
	tls  *tls.Config
	wait backend.Backoff

	servers       []string
	next, failing int
	allTried      func()
}

// Init takes the addresses as they are: the library has put them in an order of chance.
func (s *dialer) Init(servers []string) error {
	s.servers = servers
	return nil
}

// Len is how many there are.
func (s *dialer) Len() int { return len(s.servers) }

// Next is the server to try. The library pauses, and fails what waits to be sent, when all were tried.
func (s *dialer) Next() (server string, all bool) {
	server = s.servers[s.next%len(s.servers)]
	s.next++
	all = s.failing > 0 && s.failing%len(s.servers) == 0
	s.failing++
	return server, all
}

// Connected is called when a server has given a session.
func (s *dialer) Connected() {
	s.failing = 0
	s.wait.Reset()
}

func (s *dialer) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	conn, err := s.reach(network, address, timeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why = err; err == nil {
		s.plain = conn
		return &bounded{Conn: conn, most: s.options.Timeout / 2}, nil
	}
	if s.failing >= len(s.servers) {
		s.allTried()
	}
	return nil, err
}

func (s *dialer) reach(network, address string, timeout time.Duration) (net.Conn, error) {
	if s.failing > 1 {
		if err := s.wait.Wait(s.ended); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(s.ended, timeout)
	defer cancel()
	plain, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil || s.tls == nil {
		return plain, err
	}
	config := s.tls.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, err
	}
	return conn, nil
}

// bounded does not wait long for its first answer, which begins or resumes the session.
type bounded struct {
	net.Conn
	most time.Duration
	past bool
}

func (c *bounded) SetReadDeadline(at time.Time) error {
	if end := time.Now().Add(c.most); !c.past && at.After(end) {
		at = end
	}
	c.past = true
	return c.Conn.SetReadDeadline(at)
}

// quiet keeps what the library says for who looks for faults.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) { q.log.Debug(fmt.Sprintf(format, args...)) }
