package apitest

import (
	"context"
	"strings"
	"testing"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
)

func TestHealthFollowsReadiness(t *testing.T) {
	each(t, func(t *testing.T, _ front, s *sidecar, cc grpc.ClientConnInterface) {
		c := healthv1.NewHealthClient(cc)
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		for _, service := range []string{"", "outrigger.cache.v1.Cache", "outrigger.registry.v1.Registry"} {
			w := must[grpc.ServerStreamingClient[healthv1.HealthCheckResponse]](t)(c.Watch(ctx, &healthv1.HealthCheckRequest{Service: service}))
			for _, want := range []healthv1.HealthCheckResponse_ServingStatus{healthv1.HealthCheckResponse_SERVING, healthv1.HealthCheckResponse_NOT_SERVING, healthv1.HealthCheckResponse_SERVING} {
				s.SetReady(want == healthv1.HealthCheckResponse_SERVING)
				if got := must[*healthv1.HealthCheckResponse](t)(w.Recv()); got.Status != want {
					t.Errorf("%q: watched %v, want %v", service, got.Status, want)
				}
				if got := must[*healthv1.HealthCheckResponse](t)(c.Check(ctx, &healthv1.HealthCheckRequest{Service: service})); got.Status != want {
					t.Errorf("%q: %v, want %v", service, got.Status, want)
				}
			}
		}
		if _, err := c.Check(ctx, &healthv1.HealthCheckRequest{Service: "none"}); status.Code(err) != codes.NotFound {
			t.Error(err)
		}
	})
}

// TestHealthTellsWhoseSidecarItIs, ready or not, so that an application does not take that of another for its own.
func TestHealthTellsWhoseSidecarItIs(t *testing.T) {
	s := start(t, func(o *server.Options) { o.Admin = "127.0.0.1:7172" })
	for _, target := range []string{"unix:" + s.socket, "passthrough:///" + s.grpc} {
		c := healthv1.NewHealthClient(dial(t, target))
		for _, ready := range []bool{true, false} {
			s.SetReady(ready)
			var header metadata.MD
			must[*healthv1.HealthCheckResponse](t)(c.Check(within(t), &healthv1.HealthCheckRequest{}, grpc.Header(&header)))
			if got := header.Get("outrigger-app"); len(got) != 1 || got[0] != "shop/orders" {
				t.Errorf("%s, ready %v: %q", target, ready, got)
			}
			if got := header.Get("outrigger-admin"); len(got) != 1 || got[0] != "127.0.0.1:7172" {
				t.Errorf("%s, ready %v: admin pages at %q", target, ready, got)
			}
		}
	}
}

func TestReflection(t *testing.T) {
	s := start(t)
	cc := dial(t, "passthrough:///"+s.grpc)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var services []string
	v1 := must[grpc.BidiStreamingClient[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse]](t)(reflectionv1.NewServerReflectionClient(cc).ServerReflectionInfo(ctx))
	if err := v1.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range must[*reflectionv1.ServerReflectionResponse](t)(v1.Recv()).GetListServicesResponse().GetService() {
		services = append(services, s.Name)
	}
	for _, want := range []string{"outrigger.cache.v1.Cache", "outrigger.config.v1.Config", "outrigger.secret.v1.Secret", "outrigger.registry.v1.Registry",
		"outrigger.invocation.v1.Invocation", "grpc.health.v1.Health"} {
		if !strings.Contains(strings.Join(services, " "), want) {
			t.Error("not listed:", want)
		}
	}
	alpha := must[grpc.BidiStreamingClient[reflectionv1alpha.ServerReflectionRequest, reflectionv1alpha.ServerReflectionResponse]](t)(reflectionv1alpha.NewServerReflectionClient(cc).ServerReflectionInfo(ctx))
	if err := alpha.Send(&reflectionv1alpha.ServerReflectionRequest{MessageRequest: &reflectionv1alpha.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "outrigger.cache.v1.Cache"}}); err != nil {
		t.Fatal(err)
	}
	if files := must[*reflectionv1alpha.ServerReflectionResponse](t)(alpha.Recv()).GetFileDescriptorResponse().GetFileDescriptorProto(); len(files) == 0 {
		t.Error("no description of the cache service")
	}
}

func TestUnknownMethods(t *testing.T) {
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		if f.json {
			t.Log("HTTP's answers are in TestWhatPeopleSendByHand")
			err := cc.Invoke(within(t), "/outrigger.cache.v1.Cache/None", &cachev1.GetRequest{}, &cachev1.GetResponse{})
			refused(t, "no method", err, codes.NotFound, "UNKNOWN_PATH")
			return
		}
		for _, path := range []string{"/outrigger.cache.v1.Cache/None", "/outrigger.none.v1.None/Get", "/grpc.none.None/Get", "/dapr.proto.runtime.v1.Dapr/GetState", "/shop.Stock/Get"} {
			err := cc.Invoke(within(t), path, &cachev1.GetRequest{}, &cachev1.GetResponse{})
			refused(t, path, err, codes.Unimplemented, "UNKNOWN_METHOD")
			if text := status.Convert(err).Message(); !strings.Contains(text, path) || !strings.Contains(text, "outrigger.cache.v1.Cache") {
				t.Errorf("it does not say what there is: %q", text)
			}
		}
	})
}
