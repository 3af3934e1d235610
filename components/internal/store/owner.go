package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// own makes this process the owner, who holds the lock: it recovers what is there, and then serves it to others. When ctx ends before that
// is done it does not wait for the disk: the lock is freed when the disk has answered.
func (n *node) own(ctx context.Context, l *lock) (*session, error) {
	type opened struct {
		s   *session
		err error
	}
	done := make(chan opened, 1)
	go func() {
		s, err := n.open(l)
		done <- opened{s, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			l.free()
		}
		return o.s, o.err
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil {
				o.s.finish(db.ErrClosed)
				n.leave(o.s)
			} else {
				l.free()
			}
		}()
		return nil, fmt.Errorf("%w: the store is still being opened: %w", components.ErrUnavailable, ctx.Err())
	}
}

func (n *node) open(l *lock) (*session, error) {
	begun := time.Now()
	d, err := db.Open(db.Options{Dir: filepath.Join(n.dir, "data"), Logger: n.log})
	if err != nil {
		return nil, explain(err)
	}
	m, err := openMachines(d, n.log)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	s := newSession()
	s.machines = m
	stop, err := s.serve(n.dir)
	if err != nil {
		m.close()
		return nil, errors.Join(err, d.Close())
	}
	m.leave = func() {
		stop()
		m.close()
		if err := d.Close(); err != nil {
			n.log.Error("the store did not close well", "err", err)
		}
		l.free()
	}
	n.log.Debug("this process owns the store", "seconds", time.Since(begun).Seconds())
	return s, nil
}

// failed closes when the owner's files can be used no more, and never for a client.
func (s *session) failed() <-chan struct{} {
	if s.machines == nil || s.machines.db == nil {
		return nil
	}
	return s.machines.db.Failed()
}

// serve answers other processes until stop is called, which lets what was answered get there.
func (s *session) serve(dir string) (stop func(), err error) {
	ln, err := listen(dir)
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(frames{}), grpc.UnknownServiceHandler(s.handle),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(4<<20), grpc.SharedWriteBuffer(true))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln) // it ends when it is stopped
	}()
	return func() {
		timer := time.AfterFunc(finishTime, srv.Stop)
		srv.GracefulStop() // the last answers are on their way
		timer.Stop()
		<-done
	}, nil
}

// handle answers one call or stream of another process.
func (s *session) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	name := full[len(prefix):]
	h, known := s.machines.mux.methods[name]
	switch {
	case name == helloName:
		return answer(stream, hello{protocol, os.Getpid()}, nil)
	case name == pingName:
		return answer(stream, struct{}{}, nil)
	case !known:
		return answer(stream, nil, noMethod(name))
	case h.call != nil:
		return s.handleCall(h, stream)
	}
	return s.handleStream(h, stream)
}

func answer(stream grpc.ServerStream, v any, err error) error {
	var b []byte
	if err == nil {
		b, err = encode(v)
	}
	if err != nil {
		b = encodeError(err)
	}
	return stream.SendMsg(&b)
}

func (s *session) handleCall(h method, stream grpc.ServerStream) error {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	ctx, cancel := within(stream.Context())
	defer cancel()
	if tooLate(ctx) || !s.begin() {
		return answer(stream, nil, errNotBegun)
	}
	defer s.end()
	defer context.AfterFunc(s.patient, cancel)()
	out, err := h.call(ctx, message)
	if err != nil {
		out = encodeError(err)
	}
	return stream.SendMsg(&out)
}

// handleStream ends with the handler, and before it when the owner stops serving: the handler may wait for a message, and
// sees only then that none will come.
func (s *session) handleStream(h method, stream grpc.ServerStream) error {
	ctx, cancel := within(stream.Context())
	if tooLate(ctx) || !s.begin() {
		cancel()
		return answer(stream, nil, errNotBegun)
	}
	ctx, leave := context.WithCancelCause(ctx)
	in := &served{stream, make(chan error, 1)}
	go func() {
		defer s.end()
		defer cancel()
		in.finish(h.stream(ctx, in))
	}()
	select {
	case <-s.serving.Done():
		leave(errLost) // what its client does from now on it does because of that
		return status.Error(codes.Aborted, "the owner of the store gives it up")
	case err := <-in.ended:
		leave(nil)
		if err != nil {
			return answer(stream, nil, err)
		}
		return nil
	}
}

// served is the stream of a handler, which may say how it ends before it has returned.
type served struct {
	grpc.ServerStream
	ended chan error // holds the first
}

func (s *served) finish(err error) {
	select {
	case s.ended <- err:
	default:
	}
}

// within is a context that ends at the caller's deadline: what gRPC says of that is counted from when this process read it.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	if until, ok := moment(ctx, deadlineHeader); ok {
		return context.WithTimeout(ctx, until-db.Uptime())
	}
	return context.WithCancel(ctx)
}

func tooLate(ctx context.Context) bool {
	by, ok := moment(ctx, beginHeader)
	return ok && db.Uptime() >= by || ctx.Err() != nil
}

func moment(ctx context.Context, header string) (time.Duration, bool) {
	values := metadata.ValueFromIncomingContext(ctx, header)
	if len(values) != 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	return time.Duration(n), err == nil
}

// socketPath is where the owner serves, by a way that is short enough for a socket (unix(7) has 107 bytes).
func socketPath(dir, name string) (path string, done func(), err error) {
	if path = filepath.Join(dir, name); len(path) <= 107 {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), name), func() { f.Close() }, nil
}

const socketName = "socket"

// listen puts a socket in the place of the one that the owner before left behind.
func listen(dir string) (net.Listener, error) {
	const draft = socketName + ".new"
	if err := os.Remove(filepath.Join(dir, draft)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, explain(err)
	}
	path, done, err := socketPath(dir, draft)
	if err != nil {
		return nil, err
	}
	defer done()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("the store's socket: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	err = os.Chmod(filepath.Join(dir, draft), 0o600) // the folder is closed to others while it is being made
	if err == nil {
		err = os.Rename(filepath.Join(dir, draft), filepath.Join(dir, socketName))
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return &ownListener{ln}, nil
}

// ownListener accepts the own user and root, as the kernel names them, and hangs up on others.
type ownListener struct{ *net.UnixListener }

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUser(c); err == nil && (uid == 0 || uid == os.Geteuid()) {
			return c, nil
		}
		_ = c.Close()
	}
}
