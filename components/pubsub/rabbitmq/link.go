package rabbitmq

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// link is a connection that is made anew when it is lost. Safe for concurrent use.
type link struct {
	opts  Options
	tls   *tls.Config
	where string

	turn    chan struct{} // holds an element while somebody dials
	mu      sync.Mutex
	conn    *amqp.Connection
	closed  bool
	first   int   // of the addresses: the one that is tried first
	failure error // of the last try
	next    time.Time
	pause   backend.Backoff
}

var errClosed = errors.New("the driver is closed")

func newLink(o Options) (*link, error) {
	config, err := o.TLS.Config()
	if err != nil {
		return nil, err
	}
	return &link{opts: o, tls: config, where: "rabbitmq " + strings.Join(o.Addresses, ","), turn: make(chan struct{}, 1), pause: backend.Backoff{First: 50 * time.Millisecond, Most: time.Second}}, nil
}

// get answers the connection. While there is none, one caller dials, not more often than the pauses allow, and the others are told why the last
// try failed.
func (l *link) get(ctx context.Context) (*amqp.Connection, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	conn, closed, failure, next := l.conn, l.closed, l.failure, l.next
	l.mu.Unlock()
	switch {
	case closed:
		return nil, backend.Unreachable(ctx, l.where, errClosed)
	case conn != nil && !conn.IsClosed():
		return conn, nil
	case failure != nil && time.Now().Before(next):
		return nil, l.said(ctx, failure)
	}
	conn, err := l.dialAny()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn, l.failure = conn, err; err != nil {
		l.conn, l.next = nil, time.Now().Add(l.pause.Next())
		return nil, l.said(ctx, err)
	}
	l.pause.Reset()
	if l.closed {
		_ = conn.Close()
	}
	return conn, nil
}

func (l *link) dialAny() (conn *amqp.Connection, err error) {
	l.mu.Lock()
	first := l.first
	l.mu.Unlock()
	for i := range l.opts.Addresses {
		at := (first + i) % len(l.opts.Addresses)
		if conn, err = l.dial(l.opts.Addresses[at]); err == nil || refused(err) {
			l.mu.Lock()
			l.first = at // one that does not answer would cost connect_timeout each time
			l.mu.Unlock()
			return conn, err
		}
	}
	return nil, err
}

func (l *link) dial(address string) (*amqp.Connection, error) {
	config := amqp.Config{Vhost: l.opts.Vhost, Heartbeat: l.opts.Heartbeat, Locale: "en_US", Properties: amqp.NewConnectionProperties(),
		SASL: []amqp.Authentication{&amqp.PlainAuth{Username: l.opts.User, Password: l.opts.Password.Reveal()}},
		Dial: func(network, addr string) (net.Conn, error) {
			c, err := net.DialTimeout(network, addr, l.opts.ConnectTimeout)
			if err == nil {
				err = c.SetDeadline(time.Now().Add(l.opts.ConnectTimeout)) // the library takes it away once it has shaken hands
			}
			return c, err
		}}
	scheme := "amqp://"
	if l.tls != nil {
		scheme, config.TLSClientConfig = "amqps://", l.tls.Clone()
		if host, _, err := net.SplitHostPort(address); err == nil && config.TLSClientConfig.ServerName == "" {
			config.TLSClientConfig.ServerName = host
		}
	}
	return amqp.DialConfig(scheme+address, config)
}

func (l *link) channel(ctx context.Context) (*amqp.Channel, error) {
	return l.prepared(ctx, func(*amqp.Channel) error { return nil })
}

// prepared is a channel for which something was done before. One that comes when ctx has ended is closed.
func (l *link) prepared(ctx context.Context, prepare func(*amqp.Channel) error) (*amqp.Channel, error) {
	made, failed := make(chan *amqp.Channel), make(chan error, 1)
	go func() {
		conn, err := l.get(ctx)
		if err != nil {
			failed <- err
			return
		}
		ch, err := conn.Channel()
		if err == nil {
			err = prepare(ch)
		}
		if err == nil {
			select {
			case made <- ch:
				return
			case <-ctx.Done():
			}
		} else {
			failed <- l.said(ctx, err)
		}
		if ch != nil {
			_ = ch.Close()
		}
	}()
	select {
	case ch := <-made:
		return ch, nil
	case err := <-failed:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// do does something on a channel of its own. Nobody waits for the end of that.
func (l *link) do(ctx context.Context, what func(*amqp.Channel) error) error {
	ch, err := l.channel(ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		done <- what(ch)
		_ = ch.Close()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave gives up a connection for one to the next node. It says so in time, or not at all.
func (l *link) leave(conn *amqp.Connection) {
	l.mu.Lock()
	if l.conn == conn {
		l.first = (l.first + 1) % len(l.opts.Addresses)
	}
	l.mu.Unlock()
	_ = conn.CloseDeadline(time.Now().Add(time.Second))
}

func (l *link) close() {
	l.mu.Lock()
	conn := l.conn
	l.closed = true
	l.mu.Unlock()
	if conn != nil {
		_ = conn.CloseDeadline(time.Now().Add(time.Second))
	}
}

// said is an error of the server or of the way to it, as callers get it.
func (l *link) said(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case refused(err):
		return backend.Refused(l.where, err)
	}
	return backend.Unreachable(ctx, l.where, err)
}

// refused tells whether the server does not let its user do this.
func refused(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && (e.Code == amqp.AccessRefused || e.Code == amqp.NotAllowed)
}

func code(err error) int {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// within does what takes no context. If ctx ends first it goes on until the server answers or the connection is given up, and what it writes to
// must not be read.
func within(ctx context.Context, do func() error) error {
	if ctx.Done() == nil {
		return do()
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func hashed(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return hex.EncodeToString(sum[:16])
}
