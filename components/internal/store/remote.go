package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// remote is the connection to the owner in another process.
type remote struct {
	owner Owner
	wire  net.Conn
	conn  *grpc.ClientConn // over it
	lost  context.Context  // ends with the connection
	lose  context.CancelFunc

	silence atomic.Pointer[silence] // the one that goes on, or is to come
	pings   sync.WaitGroup
}

// silence is a time in which the owner does not answer.
type silence struct {
	began context.Context
	begin context.CancelFunc
}

const (
	pingEvery  = 300 * time.Millisecond
	stuckAfter = time.Second
	ownPause   = 50 * time.Millisecond // what a process that was frozen itself gets to see the answer that waits for it
)

var (
	errNobody     = errors.New("nobody serves the store")
	errConnection = errors.New("the connection to the store's owner broke")
	errRedial     = errors.New("the store's owner has left")
)

// dial connects to the owner: errNobody if there is none yet.
func dial(ctx context.Context, dir string) (*remote, error) {
	path, done, err := socketPath(dir, socketName)
	if err != nil {
		return nil, explain(err)
	}
	defer done()
	limit, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(limit, "unix", path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, errNobody
	case limit.Err() != nil && ctx.Err() == nil:
		return nil, stuck(readOwner(dir))
	case err != nil:
		return nil, explain(err)
	}
	r := &remote{owner: readOwner(dir), wire: nc}
	r.lost, r.lose = context.WithCancel(context.Background())
	r.listen()
	if r.conn, err = grpc.NewClient("passthrough:///store", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(r.once(nc)),
		grpc.WithIdleTimeout(0), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithSharedWriteBuffer(true),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(4<<20),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frames{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage))); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	if err := r.greet(limit); err != nil {
		r.close()
		if limit.Err() != nil && ctx.Err() == nil {
			return nil, stuck(r.owner)
		}
		return nil, err
	}
	r.pings.Go(r.ping)
	return r, nil
}

// once is a dialer for the one connection there is: another one would lead to another owner.
func (r *remote) once(nc net.Conn) func(context.Context, string) (net.Conn, error) {
	var taken atomic.Bool
	return func(context.Context, string) (net.Conn, error) {
		if taken.Swap(true) {
			r.lose()
			return nil, errRedial
		}
		return &watched{nc, r.lose}, nil
	}
}

// watched tells of the end of a connection before gRPC does.
type watched struct {
	net.Conn
	lose func()
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil {
		w.lose()
	}
	return n, err
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if err != nil {
		w.lose()
	}
	return n, err
}

func (r *remote) greet(ctx context.Context) error {
	m, err := encode(hello{Protocol: protocol, PID: os.Getpid()})
	if err != nil {
		return err
	}
	var answer []byte
	if err := r.conn.Invoke(ctx, prefix+helloName, &m, &answer); err != nil {
		if r.lost.Err() != nil {
			return errNobody
		}
		return err
	}
	var h hello
	if err := decode(answer, &h); err != nil {
		return err
	}
	if h.Protocol != protocol {
		return unavailable(ReasonOtherVersion, "process %d owns the store and speaks version %d of the protocol, not %d: restart it with this version", h.PID, h.Protocol, protocol)
	}
	r.owner.PID = h.PID
	return nil
}

// watch ends the session with the connection.
func (r *remote) watch(s *session) { context.AfterFunc(r.lost, func() { s.stop(errLost) }) }

// cut breaks the connection, so that calls under way end, and as what they are: begun or not.
func (r *remote) cut() {
	r.lose()
	_ = r.wire.Close() // it may be broken already
}

// close is for when no call is under way: gRPC would end those that were sent like those that were not.
func (r *remote) close() {
	r.cut()
	_ = r.conn.Close() // there is nothing on it that anybody waits for
	r.pings.Wait()
}

func (r *remote) listen() {
	s := &silence{}
	s.began, s.begin = context.WithCancel(context.Background())
	r.silence.Store(s)
}

func (r *remote) silent() bool { return r.silence.Load().began.Err() != nil }

// ping asks the owner now and then whether it is there.
func (r *remote) ping() {
	m, _ := encode(struct{}{}) // an empty struct
	for {
		answered := make(chan error, 1)
		r.pings.Go(func() {
			var answer []byte
			answered <- r.conn.Invoke(r.lost, prefix+pingName, &m, &answer)
		})
		if err := r.heardOf(answered); err != nil && r.lost.Err() != nil {
			return
		}
		if r.silent() { // else who waits for the silence to begin waits for this one
			r.listen()
		}
		select {
		case <-r.lost.Done():
			return
		case <-time.After(pingEvery):
		}
	}
}

// heardOf waits for the answer to a ping. The owner is silent when it has not come for too long, and not after another moment either: a
// process that was frozen itself finds its timer over before it sees the answer that waits for it.
func (r *remote) heardOf(answered <-chan error) error {
	timer := time.NewTimer(stuckAfter)
	defer timer.Stop()
	select {
	case err := <-answered:
		return err
	case <-timer.C:
		timer.Reset(ownPause)
	}
	select {
	case err := <-answered:
		return err
	case <-timer.C:
		r.silence.Load().begin()
	}
	return <-answered
}

// await ends a call in a silence, when it is too late for it to be begun.
func (r *remote) await(ctx context.Context, by time.Duration, cancel func(error)) (stop func() bool) {
	return context.AfterFunc(r.silence.Load().began, func() {
		select {
		case <-time.After(by - db.Uptime()):
		case <-ctx.Done():
			return
		}
		if r.silent() {
			cancel(stuck(r.owner))
			return
		}
		r.await(ctx, by, cancel)
	})
}

// usable refuses calls that would not come to the owner.
func (r *remote) usable() error {
	switch {
	case r.lost.Err() != nil:
		return errNotBegun
	case r.silent():
		return stuck(r.owner)
	}
	return nil
}

// call makes a unary call. errNotBegun and errConnection are for the caller to act on.
func (r *remote) call(ctx context.Context, name string, message []byte) (answer []byte, err error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	by := db.Uptime() + stuckAfter
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer r.await(limited, by, cancel)()
	err = r.conn.Invoke(r.headed(limited, ctx, by), prefix+name, &message, &answer)
	return answer, r.failure(ctx, limited, err)
}

// headed adds to a context what the owner has to know of the caller's time.
func (r *remote) headed(ctx, caller context.Context, by time.Duration) context.Context {
	pairs := []string{beginHeader, strconv.FormatInt(int64(by), 10)}
	if end, ok := caller.Deadline(); ok {
		pairs = append(pairs, deadlineHeader, strconv.FormatInt(int64(db.Uptime()+time.Until(end)), 10))
	}
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(pairs...))
}

func (r *remote) failure(caller, limited context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case caller.Err() != nil:
		return caller.Err()
	case limited.Err() != nil:
		return &halfDone{context.Cause(limited)}
	case neverSent(err):
		return errNotBegun
	case r.lost.Err() != nil:
		return fmt.Errorf("%w: %w", errConnection, err)
	case status.Code(err) == codes.Aborted: // a stream of an owner that gives up the store
		return errLost
	case status.Code(err) == codes.DeadlineExceeded: // the transport's clock was ahead of the caller's
		return context.DeadlineExceeded
	case status.Code(err) == codes.ResourceExhausted:
		return fmt.Errorf("%w: %s", components.ErrExhausted, status.Convert(err).Message())
	}
	return fmt.Errorf("%w: %w", components.ErrUnavailable, err)
}

// neverSent tells whether gRPC had no connection to send a call on: the one there was has ended.
func neverSent(err error) bool {
	return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), errRedial.Error())
}

// halfDone is the error of a call that was sent and may have begun.
type halfDone struct{ error }

func (h *halfDone) Unwrap() error { return h.error }

// far is a Stream to another process.
type far[In, Out any] struct {
	grpc.ClientStream
	r      *remote
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func openRemote[In, Out any](ctx context.Context, r *remote, name string) (Stream[In, Out], error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stream, err := r.conn.NewStream(r.headed(ctx, ctx, db.Uptime()+stuckAfter), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, prefix+name)
	if err != nil {
		err = r.failure(ctx, ctx, err)
		cancel(nil)
		return nil, err
	}
	return &far[In, Out]{stream, r, ctx, cancel}, nil
}

func (f *far[In, Out]) Send(m In) error {
	b, err := encode(m)
	if err != nil {
		return err
	}
	return f.why(f.SendMsg(&b))
}

func (f *far[In, Out]) Recv() (m Out, err error) {
	var b []byte
	if err := f.RecvMsg(&b); err != nil {
		return m, f.why(err)
	}
	if err = decode(b, &m); errors.Is(err, errNotBegun) {
		err = errLost
	}
	return m, err
}

// why says why the stream ended.
func (f *far[In, Out]) why(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	case f.ctx.Err() != nil:
		return context.Cause(f.ctx)
	case f.r.lost.Err() != nil:
		return errLost
	}
	return f.r.failure(f.ctx, f.ctx, err)
}

func (f *far[In, Out]) Close() { f.cancel(errStreamClosed) }
