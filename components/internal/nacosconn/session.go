package nacosconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	wire "github.com/nacos-group/nacos-sdk-go/v2/api/grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

const (
	maxMessage = 32 << 20 // bytes; the server's own limit is 10 MiB unless it is set
	setupPause = 5 * time.Millisecond

	clientVersion = "Nacos-Go-Client:v2.3.5" // servers tell by it what a client understands
)

var errReset = errors.New("the server asks to connect again")

// session is one connection to one server. It ends when its stream does, or when the server does not answer a heartbeat.
type session struct {
	address string // HTTP, as in the options
	options Options
	conn    *grpc.ClientConn
	request wire.RequestClient
	stream  wire.BiRequestStream_RequestBiStreamClient
	ended   context.Context // of the stream
	end     context.CancelCauseFunc

	mu    sync.Mutex
	local string     // our own address on the connection
	send  sync.Mutex // on the stream
}

// connect makes one, which lasts until close, or until it is lost.
func connect(ctx context.Context, c *Client, address string) (*session, error) {
	s := &session{address: address, options: c.options}
	s.ended, s.end = context.WithCancelCause(context.Background())
	limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	if err := s.open(limited, c); err != nil {
		s.close()
		var told *Told
		if errors.As(err, &told) {
			return nil, told.kind(address)
		}
		return nil, backend.Unreachable(ctx, "nacos "+address, err)
	}
	return s, nil
}

func (s *session) open(ctx context.Context, c *Client) (err error) {
	if s.conn, err = s.dial(); err != nil {
		return err
	}
	s.request = wire.NewRequestClient(s.conn)
	if err := s.ask(ctx, nil, serverCheck{}, nil); err != nil {
		return err
	}
	if s.stream, err = wire.NewBiRequestStreamClient(s.conn).RequestBiStream(s.ended); err != nil {
		return err
	}
	p, err := s.payload(nil, setup{ClientVersion: clientVersion, Labels: map[string]string{"source": "sdk", "module": c.module}})
	if err != nil {
		return err
	}
	if err := s.put(p); err != nil {
		return err
	}
	c.work.Go(func() { s.receive(c) })
	return s.registered(ctx)
}

func (s *session) dial() (*grpc.ClientConn, error) {
	target, err := s.options.grpcAddress(s.address)
	if err != nil {
		return nil, err
	}
	secure := insecure.NewCredentials()
	if s.options.TLS.Enabled {
		tls, err := s.options.TLS.Config()
		if err != nil {
			return nil, err
		}
		secure = credentials.NewTLS(tls)
	}
	return grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(secure), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithContextDialer(func(ctx context.Context, at string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
			if err == nil {
				host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
				s.mu.Lock()
				s.local = host
				s.mu.Unlock()
			}
			return conn, err
		}))
}

// registered waits until the server knows the connection: it does not say so.
func (s *session) registered(ctx context.Context) error {
	for {
		err := s.ask(ctx, nil, healthCheck{}, nil)
		if !IsTold(err, codeUnregistered) {
			return err
		}
		select {
		case <-time.After(setupPause):
		case <-ctx.Done():
			return err
		case <-s.ended.Done():
			return context.Cause(s.ended)
		}
	}
}

// close ends it. It is safe to call again.
func (s *session) close() {
	s.end(net.ErrClosed)
	if s.conn != nil {
		_ = s.conn.Close() // its only error is that it was closed before
	}
}

func (s *session) payload(headers map[string]string, r Request) (*wire.Payload, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return &wire.Payload{Metadata: &wire.Metadata{Type: r.kind(), Headers: headers, ClientIp: s.ip()},
		Body: &anypb.Any{Value: body}}, nil
}

func (s *session) ip() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local
}

func (s *session) put(p *wire.Payload) error {
	s.send.Lock()
	defer s.send.Unlock()
	return s.stream.Send(p)
}

// ask asks once. What the server answers instead of doing it is a *Told.
func (s *session) ask(ctx context.Context, headers map[string]string, r Request, out any) error {
	in, err := s.payload(headers, r)
	if err != nil {
		return err
	}
	p, err := s.request.Request(ctx, in)
	if err != nil {
		return err
	}
	body := p.GetBody().GetValue()
	said := head{}
	if err := json.Unmarshal(body, &said); err != nil {
		return fmt.Errorf("its answer to %s: %w", r.kind(), err)
	}
	if said.ResultCode != codeSuccess {
		return &Told{said.ErrorCode, said.Message}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("its answer to %s: %w", r.kind(), err)
	}
	return nil
}

// receive takes what the server says on the stream, and answers it, until the stream ends.
func (s *session) receive(c *Client) {
	for {
		p, err := s.stream.Recv()
		if err != nil {
			s.end(fmt.Errorf("the stream has ended: %w", err))
			return
		}
		kind := p.GetMetadata().GetType()
		name, isRequest := strings.CutSuffix(kind, "Request")
		if !isRequest {
			continue
		}
		if name == "ConnectReset" {
			s.end(errReset)
			return
		}
		c.handler.Pushed(kind, p.GetBody().GetValue())
		if err := s.answer(name+"Response", p.GetBody().GetValue()); err != nil {
			s.end(err)
			return
		}
	}
}

// answer says that a request of the server is done. All such answers look alike.
func (s *session) answer(kind string, request []byte) error {
	in := head{}
	_ = json.Unmarshal(request, &in) // without an id there is none in the answer
	body, err := json.Marshal(head{ResultCode: codeSuccess, Success: true, RequestID: in.RequestID})
	if err != nil {
		return err
	}
	return s.put(&wire.Payload{Metadata: &wire.Metadata{Type: kind, ClientIp: s.ip()}, Body: &anypb.Any{Value: body}})
}

// beat asks the server now and then whether it is there, until it is not, or ctx ends.
func (s *session) beat(ctx context.Context) {
	tick := time.NewTicker(s.options.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ended.Done():
			return
		case <-ctx.Done():
			s.end(ctx.Err())
			return
		}
		limited, cancel := context.WithTimeout(ctx, s.options.Timeout)
		err := s.ask(limited, nil, healthCheck{}, nil)
		cancel()
		if err != nil {
			s.end(fmt.Errorf("no answer to a heartbeat: %w", err))
			return
		}
	}
}
