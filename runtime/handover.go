package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/runtime/access"
)

// A hand-over replaces a running sidecar without anybody noticing. The new process asks the old one, over a unix socket beside
// the application's, for its sockets, and is passed them with the lock. It starts wholly, while the old one goes on serving;
// when it is ready it accepts, and says so. From then on the old one accepts no more, sends its clients away, to the same
// sockets, and ends. Until then the end of either process leaves the other in charge: sockets and lock are open in both.
//
// docs/adr/0008-handover.md has the format. A sidecar must be able to talk to those of other versions.

const (
	handoverFormat = 1
	helloTime      = 15 * time.Second // for the other side to answer; one that hands over just now takes its time
	goneTime       = 5 * time.Second  // for the sockets of a process that died to be free
	goneCheck      = 20 * time.Millisecond
	followCheck    = 500 * time.Millisecond
	maxLine        = 64 << 10
)

// message is each line of a hand-over. A field that is not known is ignored.
type message struct {
	Handover int            `json:"handover"`          // the format: 1
	Version  string         `json:"version,omitempty"` // of the sidecar that speaks, for people
	PID      int            `json:"pid,omitempty"`
	Sockets  []handedSocket `json:"sockets,omitempty"` // in the order of the descriptors that come along
	Error    string         `json:"error,omitempty"`   // why there is none
	Taken    []string       `json:"taken,omitempty"`   // the sockets that the new sidecar accepts on from now on
}

type handedSocket struct {
	Name    string `json:"name"`
	Address string `json:"address,omitempty"` // as it was configured
	Kept    bool   `json:"kept,omitempty"`    // its path stays when the sidecar ends
}

func handoverPath(socket string) string { return strings.TrimSuffix(socket, ".sock") + ".handover" }

// link is one end of the connection that a hand-over is made on.
type link struct {
	nc    *net.UnixConn
	buf   []byte
	files []*os.File // that have come
}

func (l *link) close() { l.nc.Close() }

// send writes a line, and descriptors along with it.
func (l *link) send(m message, fds ...int) error {
	m.Handover, m.PID = handoverFormat, os.Getpid()
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = l.nc.WriteMsgUnix(append(text, '\n'), rights, nil)
	return err
}

// receive reads a line; descriptors that come with it are added to files.
func (l *link) receive() (m message, err error) {
	for {
		if line, rest, whole := bytes.Cut(l.buf, []byte("\n")); whole {
			l.buf = rest
			if err := json.Unmarshal(line, &m); err != nil {
				return m, fmt.Errorf("a line that is none of a hand-over: %w", err)
			}
			if m.Handover != handoverFormat {
				return m, fmt.Errorf("the other sidecar (version %s) hands over in format %d, this one in %d", m.Version, m.Handover, handoverFormat)
			}
			return m, nil
		}
		if len(l.buf) > maxLine {
			return m, errors.New("a line that is too long")
		}
		if err := l.read(); err != nil {
			return m, err
		}
	}
}

func (l *link) read() error {
	data, rights := make([]byte, 4<<10), make([]byte, unix.CmsgSpace(4*64))
	n, k, _, _, err := l.nc.ReadMsgUnix(data, rights)
	l.buf = append(l.buf, data[:max(n, 0)]...)
	controls, e := unix.ParseSocketControlMessage(rights[:max(k, 0)])
	for _, c := range controls {
		fds, _ := unix.ParseUnixRights(&c) // others bring none
		for _, fd := range fds {
			l.files = append(l.files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return errors.Join(err, e)
}

func (l *link) within(d time.Duration) { l.nc.SetDeadline(time.Now().Add(d)) }

// predecessor is the sidecar that is to be replaced.
type predecessor struct {
	link    *link
	hello   message
	sockets passed
}

// errGone marks that the other process ended, or ends, in the middle.
var errGone = errors.New("the sidecar that ran has gone")

// ask asks the sidecar that serves on path for its sockets. found is false if none does.
func ask(path, version string) (_ *predecessor, found bool, err error) {
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("the sidecar that runs cannot be asked to hand over: %w", err)
	}
	p := &predecessor{link: &link{nc: nc}}
	if err = p.ask(version); err != nil {
		p.link.close()
		for _, f := range p.link.files {
			f.Close()
		}
		return nil, false, fmt.Errorf("the sidecar that runs does not hand over: %w", err)
	}
	return p, true, nil
}

func (p *predecessor) ask(version string) (err error) {
	p.link.within(helloTime)
	if err = p.link.send(message{Version: version}); err == nil {
		p.hello, err = p.link.receive()
	}
	switch {
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
	for late := time.Now().Add(goneTime); ; time.Sleep(goneCheck) {
		p, found, err := ask(handoverPath(path), s.opts.Version)
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
		if err == nil || !died || time.Now().After(late) || ctx.Err() != nil {
			return err
		}
	}
}

// successor is the process that has replaced this one.
type successor struct {
	link  *link
	taken []string
}

func (n *successor) has(name string) bool { return slices.Contains(n.taken, name) }

// serveHandover waits for whoever wants to replace this sidecar, one after the other: who comes while another is served is served
// by that one, when it has taken over.
func (s *sidecar) serveHandover() {
	if s.sockets.handover == nil {
		return
	}
	s.serve("handover", func() error {
		for {
			nc, err := s.sockets.handover.Accept()
			if err != nil {
				return err
			}
			if s.handOver(&link{nc: nc.(*net.UnixConn)}) {
				return s.sockets.handover.Close() // the other one accepts on it
			}
		}
	})
}

// handOver serves one that wants to replace this sidecar, until it has or is gone.
func (s *sidecar) handOver(l *link) (replaced bool) {
	stop := context.AfterFunc(s.bg, l.close)
	defer stop()
	l.within(helloTime)
	hello, err := l.receive()
	if err == nil {
		err = s.mayHandOver(l)
	}
	if err != nil {
		s.log.Warn("asked to hand over, and did not", "err", err)
		l.send(message{Version: s.opts.Version, Error: err.Error()})
		l.close()
		return false
	}
	log := s.log.With("by_pid", hello.PID, "by_version", hello.Version)
	log.Info("another sidecar starts to replace this one")
	taken, err := s.pass(l)
	if err == nil && len(taken.Taken) > 0 && s.after.CompareAndSwap(nil, &successor{l, taken.Taken}) {
		log.Info("replaced")
		s.end()
		return true
	}
	l.close()
	if !s.ending.Load() { // else it was this one that hung up, and the other goes on
		s.sockets.lent.Store(false)
		log.Warn("not replaced: the other sidecar ended before it was ready; this one goes on", "err", err)
	}
	return false
}

func (s *sidecar) mayHandOver(l *link) error {
	door := &access.Policy{Mode: access.SameUser}
	switch err := door.Admit(door.Identify(l.nc), func(string) string { return "" }); {
	case err != nil:
		return err
	case s.child.Load() != nil:
		return errors.New("it has started the application itself (run -- CMD) and must stay its parent: restart both")
	case s.ending.Load():
		return errors.New("it is ending: start when it has ended")
	}
	return nil
}

// pass passes the sockets and waits until the other side has taken them over.
func (s *sidecar) pass(l *link) (taken message, err error) {
	m := message{Version: s.opts.Version}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	add := func(fd uintptr, as handedSocket) error {
		copied, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			fds, m.Sockets = append(fds, copied), append(m.Sockets, as)
		}
		return err
	}
	for _, slot := range s.sockets.slots(s.config(), s.dataDir) {
		if *slot.into == nil {
			continue
		}
		as := handedSocket{slot.name, slot.address, slot.unix && !slices.Contains(s.sockets.paths, slot.address)}
		if err := control(*slot.into, func(fd uintptr) error { return add(fd, as) }); err != nil {
			return m, err
		}
	}
	if err := add(s.sockets.lock.Fd(), handedSocket{Name: lockName}); err != nil {
		return m, err
	}
	s.sockets.lent.Store(true)
	if err := l.send(m, fds...); err != nil {
		return m, err
	}
	l.nc.SetDeadline(time.Time{}) // it takes its time
	return l.receive()
}

// control lends a listener's descriptor.
func control(ln net.Listener, do func(fd uintptr) error) error {
	if p, ok := ln.(*patient); ok {
		ln = p.Listener
	}
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no descriptor", ln)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = do(fd) }); e != nil {
		return e
	}
	return err
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
