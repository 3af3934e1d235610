package api_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// patient fails as it is asked to by the name of a service.
type patient struct {
	healthv1.UnimplementedHealthServer
}

func (patient) Check(ctx context.Context, in *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	switch in.GetService() {
	case "odd":
		return nil, errors.New("the password is hunter2")
	case "theirs":
		return nil, status.Error(codes.Internal, "the application's own")
	case "panic":
		panic("as asked")
	}
	if c, ok := api.CallerFrom(ctx); !ok || c.App != "orders" {
		return nil, errors.New("for nobody")
	}
	return &healthv1.HealthCheckResponse{}, nil
}

func (patient) Watch(_ *healthv1.HealthCheckRequest, s grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	return s.Send(&healthv1.HealthCheckResponse{})
}

// serve serves patient through a guard on a grpc-go server, to which nobody has said who calls unless an interceptor does.
func serve(t *testing.T, log *slog.Logger, options ...grpc.ServerOption) healthv1.HealthClient {
	t.Helper()
	s := grpc.NewServer(options...)
	g := &api.Guard{MaxMessage: 1 << 20, Logger: log}
	healthv1.RegisterHealthServer(g.Around(s), patient{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	cc, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close(); s.Stop(); <-done })
	return healthv1.NewHealthClient(cc)
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestGuardRefusesWhomNobodyKnows(t *testing.T) {
	idle := grpc.UnaryInterceptor(func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		return h(ctx, in)
	})
	for what, options := range map[string][]grpc.ServerOption{"no interceptor": nil, "one that says nothing": {idle}} {
		c := serve(t, slog.New(slog.DiscardHandler), options...)
		if _, err := c.Check(within(t), &healthv1.HealthCheckRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: a call: %v", what, err)
		}
		w, err := c.Watch(within(t), &healthv1.HealthCheckRequest{})
		if err == nil {
			_, err = w.Recv()
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: a stream: %v", what, err)
		}
	}
}

func TestGuardLogsWhatIsInternalOnce(t *testing.T) {
	orders := grpc.UnaryInterceptor(func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		return h(api.WithCaller(ctx, components.Caller{Namespace: "shop", App: "orders"}), in)
	})
	for service, want := range map[string]string{"": "", "theirs": "", "odd": "the password is hunter2", "panic": "as asked"} {
		var log bytes.Buffer
		c := serve(t, slog.New(slog.NewTextHandler(&log, nil)), orders)
		_, err := c.Check(within(t), &healthv1.HealthCheckRequest{Service: service})
		if (err == nil) != (service == "") || err != nil && status.Code(err) != codes.Internal {
			t.Errorf("%q: %v", service, err)
		}
		lines := strings.Count(log.String(), "\n")
		if want == "" && lines != 0 || want != "" && (lines != 1 || !strings.Contains(log.String(), want) || !strings.Contains(log.String(), "op=/grpc.health.v1.Health/Check")) {
			t.Errorf("%q: log %q", service, log.String())
		}
	}
}
