package apitest

import (
	"testing"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	secretv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/secret/v1"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// TestRefusalsNameTheComponent: also those of requests that no driver has seen.
func TestRefusalsNameTheComponent(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, cache, config, secret := within(t), cachev1.NewCacheClient(cc), configv1.NewConfigClient(cc), secretv1.NewSecretClient(cc)
		check := func(what, capability string, err error) {
			t.Helper()
			if reason, md := reasonOf(err); reason != "INVALID_ARGUMENT" || md["capability"] != capability || md["component"] != "default" || md["driver"] == "" {
				t.Errorf("%s: %v, reason %q of %v", what, err, reason, md)
			}
		}
		_, err := cache.Set(ctx, &cachev1.SetRequest{Key: "k", Ttl: &durationpb.Duration{}})
		check("set with a ttl of 0", "cache", err)
		_, err = cache.Touch(ctx, &cachev1.TouchRequest{Key: "k", Ttl: &durationpb.Duration{Seconds: -1}})
		check("touch with a negative ttl", "cache", err)
		_, err = cache.Increment(ctx, &cachev1.IncrementRequest{Key: "k", Ttl: &durationpb.Duration{}})
		check("increment with a ttl of 0", "cache", err)
		_, err = config.Get(ctx, &configv1.GetRequest{})
		check("config without a key", "config", err)
		_, err = config.List(ctx, &configv1.ListRequest{PageSize: -1})
		check("a negative page of config", "config", err)
		_, err = config.List(ctx, &configv1.ListRequest{PageToken: "!"})
		check("a made up page token of config", "config", err)
		w, err := config.Watch(ctx, &configv1.WatchRequest{})
		if err == nil {
			_, err = w.Recv()
		}
		check("a watch of nothing", "config", err)
		_, err = secret.Get(ctx, &secretv1.GetRequest{})
		check("secret without a key", "secret", err)
		_, err = secret.List(ctx, &secretv1.ListRequest{PageSize: 1001})
		check("too large a page of secrets", "secret", err)
		_, err = secret.GetMany(ctx, &secretv1.GetManyRequest{Keys: make([]string, 5000)})
		check("too many secrets", "secret", err)
	})
}
