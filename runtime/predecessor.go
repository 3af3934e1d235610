package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	goneTime    = 5 * time.Second // for the sockets of a process that died to be free
	goneCheck   = 20 * time.Millisecond
	followCheck = 500 * time.Millisecond
)

// predecessor is the sidecar that is to be replaced.
type predecessor struct {
	link    *link
	hello   message
	sockets passed
}

// errGone marks that the other process ended, or ends, in the middle.
var errGone = errors.New("the sidecar that ran has gone")

// ask asks the sidecar that serves on path for its sockets. found is false if none does.
func ask(ctx context.Context, path, version string) (_ *predecessor, found bool, err error) {
	nc, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("the sidecar that runs cannot be asked to hand over: %w", err)
	}
	p := &predecessor{link: &link{nc: nc.(*net.UnixConn)}}
	if err = p.ask(ctx, version); err != nil {
		p.link.close()
		for _, f := range p.link.files {
			f.Close()
		}
		return nil, false, fmt.Errorf("the sidecar that runs does not hand over: %w", err)
	}
	return p, true, nil
}

func (p *predecessor) ask(ctx context.Context, version string) (err error) {
	defer context.AfterFunc(ctx, p.link.close)()
	p.link.within(helloTime)
	if err = p.link.send(message{Version: version}); err == nil {
		p.hello, err = p.link.receive()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w: %w", errGone, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it has not answered for %s: is it stopped, or starting?", helloTime)
	case err != nil:
		return err
	case p.hello.Error != "":
		return errors.New(p.hello.Error)
	case len(p.hello.Sockets) != len(p.link.files):
		return fmt.Errorf("it named %d sockets and passed %d", len(p.hello.Sockets), len(p.link.files))
	}
	p.sockets = passed{}
	for i, s := range p.hello.Sockets {
		p.sockets[s.Name] = descriptor{p.link.files[i], s.Address, s.Kept}
	}
	if p.sockets[lockName].file == nil {
		return errors.New("it did not pass its lock")
	}
	return nil
}

// open binds the sockets, but for those that systemd passes, or the sidecar that is to be replaced.
func (s *sidecar) open(ctx context.Context) error {
	given, err := activated()
	if err != nil {
		return err
	}
	defer func() { given.close() }()
	path := socketPath(s.config(), s.dataDir)
	if !s.opts.Replace {
		s.sockets, err = bind(s.config(), s.dataDir, given, false)
		return err
	}
	if path == "" {
		return errors.New("a sidecar without a unix socket (api.socket: none) cannot be replaced: a hand-over needs it")
	}
	died := false
	for late := time.Now().Add(goneTime); ; {
		p, found, err := ask(ctx, handoverPath(path), s.opts.Version)
		if found {
			s.before, given = p, given.with(p.sockets)
		}
		if err == nil {
			if s.sockets, err = bind(s.config(), s.dataDir, given, found); err != nil && found {
				p.link.close()
				return err
			}
		}
		died = died || errors.Is(err, errGone) // its sockets are free in a moment
		if err == nil || !died || time.Now().After(late) || !pause(ctx, goneCheck) {
			return err
		}
	}
}

// pause waits; false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// catchUp makes the registry have what it has of the sidecar that is to be replaced. Without that the service would be missing as
// soon as that one has gone.
func (s *sidecar) catchUp(ctx context.Context) error {
	if s.before == nil {
		return nil
	}
	s.log.Info("replacing the sidecar that runs", "pid", s.before.hello.PID, "version", s.before.hello.Version)
	ctx, cancel := context.WithTimeout(ctx, s.config().Reload.Timeout)
	defer cancel()
	s.publisher.Refresh()
	return s.publisher.Announced(ctx)
}

// takeOver begins to accept, and tells the sidecar that is replaced. That one may have gone: then there is nobody to be told.
func (s *sidecar) takeOver() {
	if s.before == nil {
		return
	}
	l := s.before.link
	s.sockets.accept()
	l.within(helloTime)
	if err := l.send(message{Version: s.opts.Version, Taken: s.sockets.taken}); err != nil {
		s.log.Warn("the sidecar that was to be replaced has gone already", "err", err)
	}
	s.tasks.Go(func() { s.follow(l) })
}

// follow looks after what the application publishes through the other sidecar until that has gone.
func (s *sidecar) follow(l *link) {
	defer context.AfterFunc(s.bg, l.close)()
	for {
		s.publisher.Refresh()
		l.within(followCheck)
		_, err := l.receive()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			s.publisher.Refresh()
			return
		}
	}
}
