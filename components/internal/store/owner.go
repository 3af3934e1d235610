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
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// own makes this process the owner, who holds the lock: it recovers what is there, and then serves it to others.
func (n *node) own(ctx context.Context, l *lock) (*session, error) {
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

// serve answers other processes until stop is called, which waits for nothing.
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
		srv.Stop()
		<-done
	}, nil
}

// handle answers one call or stream of another process.
func (s *session) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	answer, err := s.dispatch(ctx, cancel, full[len(prefix):], stream)
	if err != nil {
		answer = encodeError(err)
	}
	if answer == nil {
		return nil
	}
	return stream.SendMsg(&answer)
}

func (s *session) dispatch(ctx context.Context, cancel context.CancelCauseFunc, name string, stream grpc.ServerStream) ([]byte, error) {
	switch name {
	case helloName:
		return encode(hello{protocol, os.Getpid()})
	case pingName:
		return encode(struct{}{})
	}
	h, ok := s.machines.mux.methods[name]
	if !ok {
		return nil, noMethod(name)
	}
	var message []byte
	if h.call != nil {
		if err := stream.RecvMsg(&message); err != nil {
			return nil, err
		}
	}
	if tooLate(ctx) || !s.begin() {
		return nil, errNotBegun
	}
	defer s.end()
	if until, ok := moment(ctx, deadlineHeader); ok { // what gRPC says of it is counted from when this process read it
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, until-uptime())
		defer stop()
	}
	if h.call != nil {
		return h.call(ctx, message)
	}
	defer context.AfterFunc(s.serving, func() { cancel(errLost) })()
	err := h.stream(ctx, stream)
	if err != nil && s.serving.Err() != nil {
		err = errLost
	}
	return nil, err
}

func tooLate(ctx context.Context) bool {
	by, ok := moment(ctx, beginHeader)
	return ok && uptime() >= by || ctx.Err() != nil
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
