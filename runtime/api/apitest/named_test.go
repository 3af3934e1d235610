package apitest

import (
	"errors"
	"io"
	"testing"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
	secretv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/secret/v1"
	sequencev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/sequence/v1"
	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// isNamed holds that a refusal says of which component it is.
func isNamed(t *testing.T, what, capability string, err error) {
	t.Helper()
	if reason, md := reasonOf(err); reason != "INVALID_ARGUMENT" || md["capability"] != capability || md["component"] != "default" || md["driver"] == "" {
		t.Errorf("%s: %v, reason %q of %v", what, err, reason, md)
	}
}

// TestRefusalsNameTheComponent: also those of requests that no driver has seen.
func TestRefusalsNameTheComponent(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, cache, config, secret := within(t), cachev1.NewCacheClient(cc), configv1.NewConfigClient(cc), secretv1.NewSecretClient(cc)
		check := func(what, capability string, err error) { t.Helper(); isNamed(t, what, capability, err) }
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

// TestRefusalsOnTheStoreNameTheComponent is the same of what stands on the store.
func TestRefusalsOnTheStoreNameTheComponent(t *testing.T) {
	nothing, never := &durationpb.Duration{}, &durationpb.Duration{Seconds: 1, Nanos: -1}
	each(t, func(t *testing.T, f front, s *sidecar, cc grpc.ClientConnInterface) {
		ctx := within(t)
		check := func(what, capability string, err error) { t.Helper(); isNamed(t, what, capability, err) }

		locks := lockv1.NewLockClient(cc)
		_, err := locks.TryLock(ctx, &lockv1.TryLockRequest{Name: "l", Lease: nothing})
		check("a lease of 0", "lock", err)
		_, err = locks.Lock(ctx, &lockv1.LockRequest{Name: "l", Lease: nothing})
		check("a lease of 0 to wait for", "lock", err)
		_, err = locks.Renew(ctx, &lockv1.RenewRequest{Name: "l", Token: 1, Lease: nothing})
		check("another lease of 0", "lock", err)

		states := statev1.NewStateClient(cc)
		_, err = states.Set(ctx, &statev1.SetRequest{Key: "k", Ttl: nothing})
		check("a ttl of 0", "state", err)
		_, err = states.Transact(ctx, &statev1.TransactRequest{Barrier: &statev1.Barrier{}})
		check("a barrier that is empty", "state", err)
		_, err = states.Transact(ctx, &statev1.TransactRequest{Operations: []*statev1.Operation{{}}})
		check("an operation that is none", "state", err)

		_, err = sequencev1.NewSequenceClient(cc).Next(ctx, &sequencev1.NextRequest{Key: "k", Order: 99})
		check("an order that there is not", "sequence", err)

		_, err = schedulev1.NewScheduleClient(cc).Create(ctx, &schedulev1.CreateRequest{Job: &schedulev1.Job{Name: "j", Missed: 99}})
		check("a policy that there is not", "schedule", err)
		_, err = schedulev1.NewScheduleClient(cc).Create(ctx, &schedulev1.CreateRequest{Job: &schedulev1.Job{Name: "j",
			Trigger: &schedulev1.Trigger{When: &schedulev1.Trigger_Every{Every: nothing}}}})
		check("an interval of 0", "schedule", err)

		events, noTime := pubsubv1.NewPubSubClient(cc), &timestamppb.Timestamp{Nanos: -1}
		_, err = events.PublishMany(ctx, &pubsubv1.PublishManyRequest{Topic: "t", Events: []*pubsubv1.PublishRequest{{Component: "other"}}})
		check("an event of another component", "pubsub", err)
		if f.json { // it has no streams both ways, nor times that are none
			return
		}
		_, err = events.Publish(ctx, &pubsubv1.PublishRequest{Topic: "t", Time: noTime})
		check("a time that is none", "pubsub", err)
		_, err = events.PublishMany(ctx, &pubsubv1.PublishManyRequest{Topic: "t", Events: []*pubsubv1.PublishRequest{{Time: noTime}}})
		check("the same of one of many", "pubsub", err)
		for what, bad := range map[string]*pubsubv1.SubscribeRequest_Start{"a beginning that there is not": {Topic: "t", From: 99},
			"a moment that is none": {Topic: "t", ReplayFrom: noTime}, "an ack deadline of 0": {Topic: "t", AckDeadline: nothing}} {
			_, err := subscribe(t, s, f, bad).Recv()
			check(what, "pubsub", err)
		}
		watch := func(more ...*schedulev1.WatchRequest) error {
			w := must[schedulev1.Schedule_WatchClient](t)(schedulev1.NewScheduleClient(cc).Watch(ctx))
			for _, m := range more {
				if err := w.Send(m); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			for {
				if _, err := w.Recv(); err != nil {
					return err
				}
			}
		}
		start := func(s *schedulev1.WatchRequest_Start) *schedulev1.WatchRequest {
			return &schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Start_{Start: s}}
		}
		check("a deadline of 0", "schedule", watch(start(&schedulev1.WatchRequest_Start{AckDeadline: nothing})))
		check("two starts", "schedule", watch(start(&schedulev1.WatchRequest_Start{}), start(&schedulev1.WatchRequest_Start{})))
		check("a delay that is none", "schedule", watch(start(&schedulev1.WatchRequest_Start{}),
			&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Nack{Nack: &commonv1.Nack{DeliveryId: "d", Delay: never}}}))
	})
}
