package harness

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// Echo is an application: a gRPC server that answers what it is sent.
type Echo struct {
	echopb.UnimplementedEchoServer
	Port     int
	Instance string
	Calls    atomic.Int64
	Canceled atomic.Int64   // streams whose context ended while they ran
	Sidecar  *client.Client // for Message.next

	Traceparent atomic.Pointer[string] // of the last unary call

	server *grpc.Server
}

// StartEcho serves on a free port, or on the one given, until the test ends.
func StartEcho(t testing.TB, instance string, port ...int) *Echo {
	t.Helper()
	address := "127.0.0.1:0"
	if len(port) > 0 {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port[0]))
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	e := &Echo{Port: ln.Addr().(*net.TCPAddr).Port, Instance: instance}
	e.server = grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.ChainUnaryInterceptor(client.UnaryServerInterceptor()))
	echopb.RegisterEchoServer(e.server, e)
	go e.server.Serve(ln)
	t.Cleanup(e.Stop)
	return e
}

// Stop ends it at once.
func (e *Echo) Stop() { e.server.Stop() }

// Unary answers the message, fails, waits, or calls the next service in turn, as the message says.
func (e *Echo) Unary(ctx context.Context, in *echopb.Message) (*echopb.Message, error) {
	e.Calls.Add(1)
	if v := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(v) > 0 {
		e.Traceparent.Store(&v[0])
	}
	if in.GetWaitMs() > 0 {
		select {
		case <-time.After(time.Duration(in.GetWaitMs()) * time.Millisecond):
		case <-ctx.Done():
			e.Canceled.Add(1)
			return nil, ctx.Err()
		}
	}
	if in.GetCode() != 0 {
		return nil, failure(in)
	}
	if in.GetNext() != "" {
		in.Depth++
		return echopb.NewEchoClient(e.Sidecar.Conn(in.GetNext())).Unary(ctx, in)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.Pairs("echo-header", "h", "echo-bin", string([]byte{0, 1, 255})))
	trailer := metadata.Pairs("echo-trailer", "t")
	for name, values := range md {
		if name == "x-echo-bin" || name == "x-echo" {
			trailer.Set("back-"+name, values...)
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		trailer.Set("echo-deadline", time.Until(deadline).String())
	}
	grpc.SetTrailer(ctx, trailer)
	in.Instance = e.Instance
	return in, nil
}

func failure(in *echopb.Message) error {
	s, err := status.New(codes.Code(in.GetCode()), in.GetText()).WithDetails(&errdetails.ErrorInfo{Reason: "ECHO", Domain: "echo.test", Metadata: map[string]string{"k": "v"}})
	if err != nil {
		return err
	}
	return s.Err()
}

// Collect answers how much it was sent.
func (e *Echo) Collect(s grpc.ClientStreamingServer[echopb.Message, echopb.Message]) error {
	out := &echopb.Message{Instance: e.Instance}
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(out)
		}
		if err != nil {
			e.Canceled.Add(1)
			return err
		}
		out.Times++
		out.Text += in.GetText()
	}
}

// Repeat answers the message as often as it says.
func (e *Echo) Repeat(in *echopb.Message, s grpc.ServerStreamingServer[echopb.Message]) error {
	for i := range in.GetTimes() {
		if err := s.Send(&echopb.Message{Text: in.GetText(), Data: in.GetData(), Times: i, Instance: e.Instance}); err != nil {
			e.Canceled.Add(1)
			return err
		}
		if in.GetWaitMs() > 0 {
			select {
			case <-s.Context().Done():
				e.Canceled.Add(1)
				return s.Context().Err()
			case <-time.After(time.Duration(in.GetWaitMs()) * time.Millisecond):
			}
		}
	}
	if in.GetCode() != 0 {
		return failure(in)
	}
	return nil
}

// Chat answers each message with itself.
func (e *Echo) Chat(s grpc.BidiStreamingServer[echopb.Message, echopb.Message]) error {
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			e.Canceled.Add(1)
			return err
		}
		in.Instance = e.Instance
		if err := s.Send(in); err != nil {
			return err
		}
	}
}
