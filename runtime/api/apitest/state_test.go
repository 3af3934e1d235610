package apitest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

var (
	stateAbsent = &statev1.Condition{When: &statev1.Condition_IfAbsent{IfAbsent: true}}
	someVersion = &statev1.Condition{When: &statev1.Condition_IfVersion{IfVersion: "no"}}
	noVersion   = &statev1.Condition{When: &statev1.Condition_IfVersion{}}
)

func TestState(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), statev1.NewStateClient(cc)
		_, err := c.Get(ctx, &statev1.GetRequest{Key: "a"})
		refused(t, "get of an absent key", err, codes.NotFound, "KEY_NOT_FOUND")
		if _, md := reasonOf(err); md["capability"] != "state" || md["component"] != "default" || md["driver"] != "local" {
			t.Error("an error does not say whose it is:", md)
		}
		set := must[*statev1.SetResponse](t)(c.Set(ctx, &statev1.SetRequest{Key: "a", Value: []byte("1\x00\xff"), ContentType: "x/y",
			Ttl: durationpb.New(time.Hour), Metadata: map[string]string{"k": "v"}, Condition: stateAbsent}))
		got := must[*statev1.GetResponse](t)(c.Get(ctx, &statev1.GetRequest{Key: "a"}))
		if string(got.Value) != "1\x00\xff" || got.ContentType != "x/y" || got.Version != set.Version || got.Metadata["k"] != "v" || got.Ttl.AsDuration() < time.Minute {
			t.Error(got)
		}
		_, err = c.Set(ctx, &statev1.SetRequest{Key: "a", Condition: stateAbsent})
		refused(t, "set of a key that is there", err, codes.AlreadyExists, "KEY_EXISTS")
		if _, md := reasonOf(err); md["operation"] != "" {
			t.Error("a single write is called an operation:", err, md)
		}
		_, err = c.Set(ctx, &statev1.SetRequest{Key: "a", Condition: someVersion})
		refused(t, "set in another version", err, codes.Aborted, "VERSION_MISMATCH")
		must[*statev1.SetResponse](t)(c.Set(ctx, &statev1.SetRequest{Key: "a", Value: []byte("2"), Fence: &statev1.Fence{Name: "l", Token: 5}}))
		_, err = c.Set(ctx, &statev1.SetRequest{Key: "b", Fence: &statev1.Fence{Component: "default", Name: "l", Token: 4}})
		refused(t, "set with an older token", err, codes.FailedPrecondition, "STALE_FENCE")
		_, err = c.Delete(ctx, &statev1.DeleteRequest{Key: "a", Fence: &statev1.Fence{Name: "l", Token: 4}})
		refused(t, "delete with an older token", err, codes.FailedPrecondition, "STALE_FENCE")
		_, err = c.Delete(ctx, &statev1.DeleteRequest{Key: "a", IfVersion: set.Version})
		refused(t, "delete in another version", err, codes.Aborted, "VERSION_MISMATCH")
		all := must[*statev1.GetManyResponse](t)(c.GetMany(ctx, &statev1.GetManyRequest{Keys: []string{"a", "nope", ""}}))
		if r := all.Results; len(r) != 3 || string(r[0].Item.GetValue()) != "2" || r[1].Error.GetReason() != "KEY_NOT_FOUND" || r[2].Error.GetReason() != "INVALID_ARGUMENT" {
			t.Error(all)
		}
		must[*statev1.DeleteResponse](t)(c.Delete(ctx, &statev1.DeleteRequest{Key: "a"}))
		_, err = c.Get(ctx, &statev1.GetRequest{Key: "a"})
		refused(t, "get of a deleted key", err, codes.NotFound, "KEY_NOT_FOUND")
	})
}

func TestStateTransact(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), statev1.NewStateClient(cc)
		tx := &statev1.TransactRequest{IdempotencyKey: "once", Operations: []*statev1.Operation{setOf("a", nil), checkOf("b", stateAbsent), deleteOf("c")}}
		first := must[*statev1.TransactResponse](t)(c.Transact(ctx, tx))
		if first.Outcome != statev1.TransactResponse_OUTCOME_APPLIED || len(first.Versions) != 3 || first.Versions[0] == "" || first.Versions[1]+first.Versions[2] != "" {
			t.Error(first)
		}
		if again := must[*statev1.TransactResponse](t)(c.Transact(ctx, tx)); !slices.Equal(again.Versions, first.Versions) {
			t.Error("another answer:", again)
		}
		_, err := c.Transact(ctx, &statev1.TransactRequest{IdempotencyKey: "once", Operations: []*statev1.Operation{setOf("b", nil)}})
		refused(t, "another transaction with the same key", err, codes.AlreadyExists, "IDEMPOTENCY_KEY_REUSED")
		_, err = c.Transact(ctx, &statev1.TransactRequest{Operations: []*statev1.Operation{setOf("b", nil), setOf("a", stateAbsent)}})
		refused(t, "a condition that does not hold", err, codes.AlreadyExists, "KEY_EXISTS")
		if _, md := reasonOf(err); md["operation"] != "1" || md["component"] != "default" {
			t.Error("it does not say which operation failed:", md)
		}
		_, err = c.Get(ctx, &statev1.GetRequest{Key: "b"})
		refused(t, "what was not done", err, codes.NotFound, "KEY_NOT_FOUND")

		for _, call := range []struct {
			branch, op string
			want       statev1.TransactResponse_Outcome
		}{
			{"1", "action", statev1.TransactResponse_OUTCOME_APPLIED}, {"1", "action", statev1.TransactResponse_OUTCOME_REPEATED},
			{"1", "compensation", statev1.TransactResponse_OUTCOME_APPLIED},
			{"2", "compensation", statev1.TransactResponse_OUTCOME_EMPTY}, {"2", "action", statev1.TransactResponse_OUTCOME_SUSPENDED},
			{"3", "cancel", statev1.TransactResponse_OUTCOME_EMPTY}, {"3", "try", statev1.TransactResponse_OUTCOME_SUSPENDED},
		} {
			r := must[*statev1.TransactResponse](t)(c.Transact(ctx, &statev1.TransactRequest{Barrier: &statev1.Barrier{Gid: "g", Branch: call.branch, Op: call.op},
				Operations: []*statev1.Operation{setOf(call.branch+call.op, nil)}}))
			if r.Outcome != call.want || (len(r.Versions) > 0) != (r.Outcome == statev1.TransactResponse_OUTCOME_APPLIED) {
				t.Errorf("branch %s, %s: %v, want %v", call.branch, call.op, r, call.want)
			}
		}
	})
}

func TestStateList(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), statev1.NewStateClient(cc)
		const keys = 6
		for i := range keys {
			must[*statev1.SetResponse](t)(c.Set(ctx, &statev1.SetRequest{Key: fmt.Sprint("much/", i), Value: make([]byte, 1<<20)}))
		}
		must[*statev1.SetResponse](t)(c.Set(ctx, &statev1.SetRequest{Key: "other"}))
		list := must[*statev1.ListResponse](t)(c.List(ctx, &statev1.ListRequest{Prefix: "much/"}))
		if len(list.Entries) != keys || list.NextPageToken != "" || list.Entries[0].Item.GetVersion() == "" || list.Entries[0].Item.GetValue() != nil {
			t.Errorf("%d entries, next page %q", len(list.Entries), list.NextPageToken)
		}
		got := 0
		for page := ""; got == 0 || page != ""; {
			list := must[*statev1.ListResponse](t)(c.List(ctx, &statev1.ListRequest{Prefix: "much/", PageToken: page, Values: true}))
			for _, e := range list.Entries {
				if e.Key != fmt.Sprint("much/", got) || len(e.Item.GetValue()) != 1<<20 {
					t.Fatalf("entry %d is %q of %d bytes", got, e.Key, len(e.Item.GetValue()))
				}
				got++
			}
			page = list.NextPageToken
		}
		if got != keys {
			t.Errorf("%d of %d", got, keys)
		}
	})
}

// TestStateOfTheLargestItems: what was taken can be read.
func TestStateOfTheLargestItems(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), statev1.NewStateClient(cc)
		taken := 0
		for _, spare := range []int{10, 20, 60, 120, 130, 140, 150, 200, 1000} {
			value := make([]byte, 4<<20-spare)
			_, err := c.Set(ctx, &statev1.SetRequest{Key: "k", Value: value, Ttl: durationpb.New(time.Hour)})
			if err != nil {
				refused(t, fmt.Sprintf("%d bytes less than a message", spare), err, codes.ResourceExhausted, "MESSAGE_TOO_LARGE")
				continue
			}
			taken++
			got := must[*statev1.GetResponse](t)(c.Get(ctx, &statev1.GetRequest{Key: "k"}))
			many := must[*statev1.GetManyResponse](t)(c.GetMany(ctx, &statev1.GetManyRequest{Keys: []string{"k"}}))
			list := must[*statev1.ListResponse](t)(c.List(ctx, &statev1.ListRequest{Values: true}))
			if len(got.Value) != len(value) || len(many.Results) != 1 || len(list.Entries) != 1 {
				t.Errorf("%d bytes less than a message: %d, %d, %d", spare, len(got.Value), len(many.Results), len(list.Entries))
			}
		}
		if taken < 3 {
			t.Errorf("only %d were taken", taken)
		}
		_, err := c.Transact(ctx, &statev1.TransactRequest{Operations: []*statev1.Operation{setOf("a", nil), {Operation: &statev1.Operation_Set_{
			Set: &statev1.Operation_Set{Key: "k", Value: make([]byte, 4<<20-60)}}}}})
		refused(t, "too large an item in a transaction", err, codes.ResourceExhausted, "MESSAGE_TOO_LARGE")
		if _, md := reasonOf(err); md["operation"] != "1" || md["limit"] != "max_message_bytes" {
			t.Error(md)
		}
	})
}

func TestStateBadInput(t *testing.T) {
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), statev1.NewStateClient(cc)
		var many []*statev1.Operation
		for i := range 101 {
			many = append(many, setOf(fmt.Sprint("k", i), nil))
		}
		for what, in := range map[string]*statev1.TransactRequest{
			"no operation":              {},
			"too many operations":       {Operations: many},
			"an operation of no kind":   {Operations: []*statev1.Operation{{}}},
			"a key twice":               {Operations: []*statev1.Operation{setOf("a", nil), deleteOf("a")}},
			"a check without condition": {Operations: []*statev1.Operation{checkOf("a", nil)}},
			"an empty version":          {Operations: []*statev1.Operation{setOf("a", noVersion)}},
			"an empty barrier":          {Operations: []*statev1.Operation{setOf("a", nil)}, Barrier: &statev1.Barrier{}},
			"an empty fence":            {Operations: []*statev1.Operation{setOf("a", nil)}, Fence: &statev1.Fence{}},
			"a huge idempotency key":    {Operations: []*statev1.Operation{setOf("a", nil)}, IdempotencyKey: strings.Repeat("k", 1025)},
		} {
			_, err := c.Transact(ctx, in)
			refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
			if _, md := reasonOf(err); md["component"] != "default" {
				t.Errorf("%s: whose error that is, is not said: %v", what, md)
			}
		}
		for what, in := range map[string]*statev1.SetRequest{
			"no key":           {},
			"a key too long":   {Key: strings.Repeat("k", 1025)},
			"no time to live":  {Key: "a", Ttl: &durationpb.Duration{}},
			"an empty version": {Key: "a", Condition: noVersion},
		} {
			_, err := c.Set(ctx, in)
			refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		_, err := c.List(ctx, &statev1.ListRequest{PageSize: 1001})
		refused(t, "too large a page", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		_, err = c.GetMany(ctx, &statev1.GetManyRequest{Keys: make([]string, 1001)})
		refused(t, "too many keys", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		_, err = c.Set(ctx, &statev1.SetRequest{Key: "a", Value: make([]byte, 5<<20)})
		refused(t, "too large a value", err, codes.ResourceExhausted, "MESSAGE_TOO_LARGE")
	})
}

func setOf(key string, when *statev1.Condition) *statev1.Operation {
	return &statev1.Operation{Operation: &statev1.Operation_Set_{Set: &statev1.Operation_Set{Key: key, Value: []byte("v"), Condition: when}}}
}

func deleteOf(key string) *statev1.Operation {
	return &statev1.Operation{Operation: &statev1.Operation_Delete_{Delete: &statev1.Operation_Delete{Key: key}}}
}

func checkOf(key string, when *statev1.Condition) *statev1.Operation {
	return &statev1.Operation{Operation: &statev1.Operation_Check_{Check: &statev1.Operation_Check{Key: key, Condition: when}}}
}
