package apitest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	registryv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/registry/v1"
	secretv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/secret/v1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// reasonOf is the reason of an error and the metadata that come with it.
func reasonOf(err error) (string, map[string]string) {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason(), info.GetMetadata()
		}
	}
	return "", nil
}

func refused(t *testing.T, what string, err error, code codes.Code, reason string) {
	t.Helper()
	if got, _ := reasonOf(err); status.Code(err) != code || got != reason {
		t.Errorf("%s: %v, reason %q; want %v, %q", what, err, got, code, reason)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestCache(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		for _, name := range []string{"", "counted"} { // one that runs inline, one that does not
			cacheStory(t, cachev1.NewCacheClient(cc), name)
		}
	})
}

func cacheStory(t *testing.T, c cachev1.CacheClient, component string) {
	ctx := within(t)
	_, err := c.Get(ctx, &cachev1.GetRequest{Component: component, Key: "a"})
	refused(t, "get of an absent key", err, codes.NotFound, "KEY_NOT_FOUND")
	if _, md := reasonOf(err); md["capability"] != "cache" || md["component"] == "" || md["driver"] == "" {
		t.Error("an error does not say whose it is:", md)
	}
	set := must[*cachev1.SetResponse](t)(c.Set(ctx, &cachev1.SetRequest{Component: component, Key: "a", Value: []byte("1\x00\xff"), ContentType: "x/y",
		Ttl: durationpb.New(time.Hour), Metadata: map[string]string{"k": "v"}}))
	got := must[*cachev1.GetResponse](t)(c.Get(ctx, &cachev1.GetRequest{Component: component, Key: "a"}))
	if string(got.Value) != "1\x00\xff" || got.ContentType != "x/y" || got.Version != set.Version || got.Metadata["k"] != "v" || got.Ttl.AsDuration() < time.Minute {
		t.Error(got)
	}
	_, err = c.Set(ctx, &cachev1.SetRequest{Component: component, Key: "a", Condition: &cachev1.Condition{When: &cachev1.Condition_IfAbsent{IfAbsent: true}}})
	refused(t, "set of a key that is there", err, codes.AlreadyExists, "KEY_EXISTS")
	_, err = c.Set(ctx, &cachev1.SetRequest{Component: component, Key: "a", Condition: &cachev1.Condition{When: &cachev1.Condition_IfVersion{IfVersion: "no"}}})
	refused(t, "set in another version", err, codes.Aborted, "VERSION_MISMATCH")
	_, err = c.Set(ctx, &cachev1.SetRequest{Component: component, Key: "a", Condition: &cachev1.Condition{When: &cachev1.Condition_IfVersion{}}})
	refused(t, "set in an empty version", err, codes.InvalidArgument, "INVALID_ARGUMENT")
	must[*cachev1.SetResponse](t)(c.Set(ctx, &cachev1.SetRequest{Component: component, Key: "a", Value: []byte("2"), Condition: &cachev1.Condition{When: &cachev1.Condition_IfVersion{IfVersion: set.Version}}}))
	if there := must[*cachev1.ExistsResponse](t)(c.Exists(ctx, &cachev1.ExistsRequest{Component: component, Key: "a"})); !there.Exists {
		t.Error("not there")
	}
	many := must[*cachev1.SetManyResponse](t)(c.SetMany(ctx, &cachev1.SetManyRequest{Component: component, Items: []*cachev1.SetRequest{
		{Key: "m1", Value: []byte("x")}, {Key: ""}, {Key: "m2", Ttl: &durationpb.Duration{}}, {Key: "m3", Value: []byte("z")}}}))
	if r := many.Results; len(r) != 4 || r[0].Version == "" || r[1].Error.GetReason() != "INVALID_ARGUMENT" || r[2].Error.GetCode() != int32(codes.InvalidArgument) || r[3].Version == "" || r[3].Error != nil {
		t.Error(many)
	}
	all := must[*cachev1.GetManyResponse](t)(c.GetMany(ctx, &cachev1.GetManyRequest{Component: component, Keys: []string{"m3", "nope", "m1", "m1"}}))
	if r := all.Results; len(r) != 4 || string(r[0].Item.GetValue()) != "z" || r[1].Error.GetReason() != "KEY_NOT_FOUND" || r[1].Item != nil || string(r[3].Item.GetValue()) != "x" {
		t.Error(all)
	}
	if component == "" { // the other driver offers neither
		must[*cachev1.TouchResponse](t)(c.Touch(ctx, &cachev1.TouchRequest{Key: "a"}))
		if got := must[*cachev1.GetResponse](t)(c.Get(ctx, &cachev1.GetRequest{Key: "a"})); got.Ttl != nil {
			t.Error("expires yet:", got)
		}
		must[*cachev1.IncrementResponse](t)(c.Increment(ctx, &cachev1.IncrementRequest{Key: "n", Delta: 40}))
		if sum := must[*cachev1.IncrementResponse](t)(c.Increment(ctx, &cachev1.IncrementRequest{Key: "n", Delta: 2})); sum.Value != 42 {
			t.Error(sum)
		}
	} else {
		_, err = c.Touch(ctx, &cachev1.TouchRequest{Component: component, Key: "a"})
		refused(t, "what the driver does not offer", err, codes.Unimplemented, "NOT_SUPPORTED")
	}
	must[*cachev1.DeleteResponse](t)(c.Delete(ctx, &cachev1.DeleteRequest{Component: component, Key: "a"}))
	if there := must[*cachev1.ExistsResponse](t)(c.Exists(ctx, &cachev1.ExistsRequest{Component: component, Key: "a"})); there.Exists {
		t.Error("still there")
	}
}

func TestConfig(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), configv1.NewConfigClient(cc)
		must[*configv1.SetResponse](t)(c.Set(ctx, &configv1.SetRequest{Key: "app/colour", Value: []byte("red")}))
		if got := must[*configv1.GetResponse](t)(c.Get(ctx, &configv1.GetRequest{Key: "app/colour"})); string(got.Item.Value) != "red" || got.Item.Version == "" || got.Item.Stale {
			t.Error(got)
		}
		_, err := c.Get(ctx, &configv1.GetRequest{Key: "nope"})
		refused(t, "get of an absent key", err, codes.NotFound, "KEY_NOT_FOUND")
		if list := must[*configv1.ListResponse](t)(c.List(ctx, &configv1.ListRequest{Prefix: "app/"})); len(list.Items) != 1 || list.Items[0].Key != "app/colour" {
			t.Error(list)
		}
		_, err = c.List(ctx, &configv1.ListRequest{PageSize: -1})
		refused(t, "a negative page", err, codes.InvalidArgument, "INVALID_ARGUMENT")

		watching, stop := context.WithCancel(ctx)
		defer stop()
		w := must[grpc.ServerStreamingClient[configv1.WatchResponse]](t)(c.Watch(watching, &configv1.WatchRequest{Keys: []string{"app/colour", "app/size"}}))
		first := must[*configv1.WatchResponse](t)(w.Recv())
		if !first.Initial || len(first.Changes) != 2 || string(first.Changes[0].Item.GetValue()) != "red" || first.Changes[1].Item != nil {
			t.Error(first)
		}
		must[*configv1.SetResponse](t)(c.Set(ctx, &configv1.SetRequest{Key: "app/size", Value: []byte("XL")}))
		if next := must[*configv1.WatchResponse](t)(w.Recv()); next.Initial || len(next.Changes) != 1 || string(next.Changes[0].Item.GetValue()) != "XL" {
			t.Error(next)
		}
		stop()
		if _, err = w.Recv(); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		none := must[grpc.ServerStreamingClient[configv1.WatchResponse]](t)(c.Watch(ctx, &configv1.WatchRequest{}))
		_, err = none.Recv()
		refused(t, "a watch of nothing", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		must[*configv1.DeleteResponse](t)(c.Delete(ctx, &configv1.DeleteRequest{Key: "app/size"}))
	})
}

// TestConfigWatchOfMuch: what is there may be more than a message holds.
func TestConfigWatchOfMuch(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), configv1.NewConfigClient(cc)
		const keys = 6
		for i := range keys {
			must[*configv1.SetResponse](t)(c.Set(ctx, &configv1.SetRequest{Key: fmt.Sprint("much/", i), Value: make([]byte, 1<<20)}))
		}
		watching, stop := context.WithCancel(ctx)
		defer stop()
		w := must[grpc.ServerStreamingClient[configv1.WatchResponse]](t)(c.Watch(watching, &configv1.WatchRequest{Prefixes: []string{"much/"}}))
		for i := range keys {
			m := must[*configv1.WatchResponse](t)(w.Recv())
			if !m.Initial || m.More != (i < keys-1) || len(m.Changes) != 1 || len(m.Changes[0].Item.GetValue()) != 1<<20 {
				t.Fatalf("message %d: initial %v, more %v, %d changes", i, m.Initial, m.More, len(m.Changes))
			}
		}
	})
}

func TestSecret(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), secretv1.NewSecretClient(cc)
		if got := must[*secretv1.GetResponse](t)(c.Get(ctx, &secretv1.GetRequest{Key: "password"})); string(got.Value) != "hunter2" {
			t.Error("another value")
		}
		many := must[*secretv1.GetManyResponse](t)(c.GetMany(ctx, &secretv1.GetManyRequest{Keys: []string{"password", "nope"}}))
		if r := many.Results; len(r) != 2 || string(r[0].Secret.GetValue()) != "hunter2" || r[1].Error.GetReason() != "KEY_NOT_FOUND" || r[1].Secret != nil {
			t.Error(len(r))
		}
		if list := must[*secretv1.ListResponse](t)(c.List(ctx, &secretv1.ListRequest{})); !slices.Equal(list.Keys, []string{"password"}) {
			t.Error(list)
		}
	})
}

func TestRegistry(t *testing.T) {
	each(t, func(t *testing.T, _ front, s *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), registryv1.NewRegistryClient(cc)
		stock := &registryv1.Service{Name: "stock"}
		_, err := c.Resolve(ctx, &registryv1.ResolveRequest{Service: stock})
		refused(t, "a service that nobody publishes", err, codes.NotFound, "SERVICE_NOT_FOUND")
		watching, stop := context.WithCancel(ctx)
		defer stop()
		w := must[grpc.ServerStreamingClient[registryv1.WatchResponse]](t)(c.Watch(watching, &registryv1.WatchRequest{Service: stock}))
		if first := must[*registryv1.WatchResponse](t)(w.Recv()); len(first.Instances) != 0 || first.Address != outbound {
			t.Error(first)
		}
		if p := must[*registryv1.PublishResponse](t)(c.Publish(ctx, &registryv1.PublishRequest{Service: stock, Port: 8080, Labels: map[string]string{"v": "1"}})); p.Announced != "127.0.0.1:7080" {
			t.Error(p)
		}
		for range 10 {
			if next := must[*registryv1.WatchResponse](t)(w.Recv()); len(next.Instances) == 1 && next.Instances[0].Weight == 100 {
				break
			}
		}
		// Namespace and protocol were filled in: these are the same service.
		got := must[*registryv1.ResolveResponse](t)(c.Resolve(ctx, &registryv1.ResolveRequest{Service: &registryv1.Service{Namespace: "shop", Name: "stock", Protocol: "grpc"}}))
		if len(got.Instances) != 1 || got.Instances[0].Labels["v"] != "1" {
			t.Error(got)
		}
		for what, in := range map[string]*registryv1.PublishRequest{
			"no service":        {Port: 1},
			"no port":           {Service: stock},
			"a port too high":   {Service: stock, Port: 65536},
			"a negative weight": {Service: stock, Port: 1, Weight: -1},
			"another protocol":  {Service: &registryv1.Service{Name: "stock", Protocol: "carrier pigeon"}, Port: 1},
			"a slash":           {Service: &registryv1.Service{Name: "../stock"}, Port: 1},
			"a huge name":       {Service: &registryv1.Service{Name: strings.Repeat("s", 1<<20)}, Port: 1},
		} {
			_, err := c.Publish(ctx, in)
			refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		must[*registryv1.UnpublishResponse](t)(c.Unpublish(ctx, &registryv1.UnpublishRequest{Service: stock}))
		stop()
		eventually(t, "the watch has ended", func() bool { return s.naming.watchers.Load() == 0 })
	})
}

func TestInvoke(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), invocationv1.NewInvocationClient(cc)
		if got := must[*invocationv1.InvokeResponse](t)(c.Invoke(ctx, &invocationv1.InvokeRequest{Data: []byte("hi")})); string(got.Data) != "hi" || got.ContentType != "shop/orders" {
			t.Error(got)
		}
		_, err := c.Invoke(ctx, &invocationv1.InvokeRequest{Method: "fail"})
		refused(t, "the application's error", err, codes.Internal, "THEIRS")
		if status.Convert(err).Message() != "the application's own" {
			t.Error(err)
		}
	})
}

// TestAnyProtocol: who looks for a service need not know what it speaks.
func TestAnyProtocol(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), registryv1.NewRegistryClient(cc)
		web := &registryv1.Service{Name: "web", Protocol: "http"}
		must[*registryv1.PublishResponse](t)(c.Publish(ctx, &registryv1.PublishRequest{Service: web, Port: 8080}))
		for protocol, found := range map[string]bool{"": true, "http": true, "grpc": false} {
			in := &registryv1.Service{Name: "web", Protocol: protocol}
			if _, err := c.Resolve(ctx, &registryv1.ResolveRequest{Service: in}); (err == nil) != found {
				t.Errorf("resolve with protocol %q: %v", protocol, err)
			}
			watching, stop := context.WithCancel(ctx)
			w := must[grpc.ServerStreamingClient[registryv1.WatchResponse]](t)(c.Watch(watching, &registryv1.WatchRequest{Service: in}))
			if first := must[*registryv1.WatchResponse](t)(w.Recv()); (len(first.Instances) == 1) != found {
				t.Errorf("watch with protocol %q: %v", protocol, first.Instances)
			}
			stop()
		}
		must[*registryv1.UnpublishResponse](t)(c.Unpublish(ctx, &registryv1.UnpublishRequest{Service: &registryv1.Service{Name: "web"}}))
		_, err := c.Resolve(ctx, &registryv1.ResolveRequest{Service: web})
		refused(t, "what was taken back", err, codes.NotFound, "SERVICE_NOT_FOUND")
	})
}
