package apitest

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func cronJob(name, expression, zone string) *schedulev1.Job {
	return &schedulev1.Job{Name: name, Trigger: &schedulev1.Trigger{When: &schedulev1.Trigger_Cron_{
		Cron: &schedulev1.Trigger_Cron{Expression: expression, TimeZone: zone}}}}
}

func everyJob(name string, every time.Duration) *schedulev1.Job {
	return &schedulev1.Job{Name: name, Trigger: &schedulev1.Trigger{When: &schedulev1.Trigger_Every{Every: durationpb.New(every)}}}
}

func atJob(name string, at time.Time) *schedulev1.Job {
	return &schedulev1.Job{Name: name, Trigger: &schedulev1.Trigger{When: &schedulev1.Trigger_At{At: timestamppb.New(at)}}}
}

// TestSchedule tells the story of jobs; who watches them is below.
func TestSchedule(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), schedulev1.NewScheduleClient(cc)
		_, err := c.Get(ctx, &schedulev1.GetRequest{Name: "report"})
		refused(t, "get of a job that is absent", err, codes.NotFound, "JOB_NOT_FOUND")
		if _, md := reasonOf(err); md["capability"] != "schedule" || md["component"] != "default" || md["driver"] != "local" {
			t.Error("an error does not say whose it is:", md)
		}
		report := cronJob("report", "30 2 * * *", "Europe/Berlin")
		report.Data, report.ContentType, report.Metadata = []byte("1\x00\xff"), "x/y", map[string]string{"k": "v"}
		report.Missed, report.Repeats = schedulev1.Job_MISSED_SKIP, 7
		report.Until = timestamppb.New(time.Now().Add(1000 * time.Hour).UTC())
		created := must[*schedulev1.CreateResponse](t)(c.Create(ctx, &schedulev1.CreateRequest{Job: report}))
		if next := created.Next.AsTime(); time.Until(next) < 0 || time.Until(next) > 25*time.Hour || next.Minute() != 30 {
			t.Error("next is", next)
		}
		if again := must[*schedulev1.CreateResponse](t)(c.Create(ctx, &schedulev1.CreateRequest{Job: report})); !proto.Equal(again, created) {
			t.Error("the same job again:", again)
		}
		_, err = c.Create(ctx, &schedulev1.CreateRequest{Job: cronJob("report", "@daily", "")})
		refused(t, "another job of that name", err, codes.AlreadyExists, "JOB_EXISTS")
		got := must[*schedulev1.GetResponse](t)(c.Get(ctx, &schedulev1.GetRequest{Name: "report"}))
		if !proto.Equal(got.State.Job, report) || !proto.Equal(got.State.Next, created.Next) || got.State.Fired != 0 || got.State.Last != nil {
			t.Error(got)
		}
		must[*schedulev1.CreateResponse](t)(c.Create(ctx, &schedulev1.CreateRequest{Job: everyJob("report", time.Hour), Replace: true}))
		must[*schedulev1.CreateResponse](t)(c.Create(ctx, &schedulev1.CreateRequest{Job: everyJob("other", time.Hour)}))
		list := must[*schedulev1.ListResponse](t)(c.List(ctx, &schedulev1.ListRequest{PageSize: 1}))
		if len(list.Jobs) != 1 || list.Jobs[0].Job.Name != "other" || list.NextPageToken == "" {
			t.Error(list)
		}
		list = must[*schedulev1.ListResponse](t)(c.List(ctx, &schedulev1.ListRequest{Prefix: "rep", PageToken: list.NextPageToken}))
		if len(list.Jobs) != 1 || list.Jobs[0].Job.GetTrigger().GetEvery().AsDuration() != time.Hour || list.NextPageToken != "" {
			t.Error(list)
		}
		for range 2 {
			must[*schedulev1.DeleteResponse](t)(c.Delete(ctx, &schedulev1.DeleteRequest{Name: "report"}))
		}
		_, err = c.Get(ctx, &schedulev1.GetRequest{Name: "report"})
		refused(t, "get of a deleted job", err, codes.NotFound, "JOB_NOT_FOUND")
	})
}

func TestScheduleBadInput(t *testing.T) {
	past := timestamppb.New(time.Now().Add(-time.Minute))
	ended, never := everyJob("j", time.Second), everyJob("j", time.Hour)
	ended.Until, never.Until = past, timestamppb.New(time.Now().Add(time.Minute))
	large, many := everyJob("j", time.Hour), everyJob("j", time.Hour)
	large.Data, many.Repeats = make([]byte, 1<<20+1), -1
	strange, noTime := everyJob("j", time.Hour), everyJob("j", time.Hour)
	strange.Missed, noTime.Until = 9, &timestamppb.Timestamp{Nanos: -1}
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), schedulev1.NewScheduleClient(cc)
		for what, tc := range map[string]struct {
			job  *schedulev1.Job
			want string
		}{
			"no job":                 {nil, "the key is empty"},
			"no name":                {everyJob("", time.Hour), "the key is empty"},
			"a name too long":        {everyJob(strings.Repeat("n", 1025), time.Hour), "longer than 1024 bytes"},
			"no trigger":             {&schedulev1.Job{Name: "j"}, "the trigger is missing"},
			"a minute of 61":         {cronJob("j", "61 * * * *", ""), `minute field "61": 61 is not between 0 and 59`},
			"a day that never comes": {cronJob("j", "0 0 30 2 *", ""), "it never fires"},
			"cron of nothing":        {cronJob("j", "", ""), "the expression is empty"},
			"cron of words":          {cronJob("j", "every day at noon please", ""), `minute field "every"`},
			"an unknown zone":        {cronJob("j", "@daily", "Mars/Olympus"), `there is no time zone "Mars/Olympus"`},
			"an interval of 0":       {everyJob("j", 0), "an interval of 0s is less than 1ms"},
			"a negative interval":    {everyJob("j", -time.Second), "an interval of -1s is not from 1ms"},
			"less than 1 ms":         {everyJob("j", time.Microsecond), "an interval of 1µs is not from 1ms"},
			"an end in the past":     {ended, "which is past"},
			"an end before it fires": {never, "the job never fires"},
			"negative repeats":       {many, "-1 repeats are negative"},
			"an unknown policy":      {strange, "missed 9 is not known"},
			"an end that is no time": {noTime, ""},
		} {
			if f.json && (what == "an end that is no time" || what == "an unknown policy") {
				continue // JSON cannot say it
			}
			_, err := c.Create(ctx, &schedulev1.CreateRequest{Job: tc.job})
			refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
			if err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want %q", what, err, tc.want)
			}
		}
		_, err := c.Create(ctx, &schedulev1.CreateRequest{Job: large})
		refused(t, "too many data", err, codes.ResourceExhausted, "JOB_TOO_LARGE")
		_, err = c.Create(ctx, &schedulev1.CreateRequest{Component: "nope", Job: everyJob("j", time.Hour)})
		refused(t, "another component", err, codes.NotFound, "COMPONENT_NOT_FOUND")
		_, err = c.List(ctx, &schedulev1.ListRequest{PageSize: -1})
		refused(t, "a negative page", err, codes.InvalidArgument, "INVALID_ARGUMENT")
	})
}

// shift is a watch under way.
type shift struct {
	testing.TB
	stream grpc.BidiStreamingClient[schedulev1.WatchRequest, schedulev1.WatchResponse]
}

func watchJobs(t testing.TB, ctx context.Context, c schedulev1.ScheduleClient, start *schedulev1.WatchRequest_Start) *shift {
	t.Helper()
	stream, err := c.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := &shift{t, stream}
	s.say(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Start_{Start: start}})
	if s.hear().GetStarted() == nil {
		t.Fatal("the first message is not Started")
	}
	return s
}

func (s *shift) say(m *schedulev1.WatchRequest) {
	s.Helper()
	if err := s.stream.Send(m); err != nil {
		s.Fatal(err)
	}
}

func (s *shift) hear() *schedulev1.WatchResponse {
	s.Helper()
	m, err := s.stream.Recv()
	if err != nil {
		s.Fatal(err)
	}
	return m
}

func (s *shift) delivery() *schedulev1.WatchResponse_Delivery {
	s.Helper()
	m := s.hear()
	if m.GetDelivery() == nil {
		s.Fatal("not a delivery:", m)
	}
	return m.GetDelivery()
}

func (s *shift) credit(messages, bytes int64) {
	s.Helper()
	s.say(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Credit{Credit: &commonv1.Credit{Messages: messages, Bytes: bytes}}})
}

func (s *shift) ack(id string) {
	s.Helper()
	s.say(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Ack{Ack: &commonv1.Ack{DeliveryIds: []string{id}}}})
}

// TestScheduleWatch: firings come within the credit, again after a nack, a deadline and the end of a stream, and are done with after
// an ack or a reject.
func TestScheduleWatch(t *testing.T) {
	draining, drain := context.WithCancel(context.Background())
	defer drain()
	for _, f := range fronts()[:3] { // over HTTP with JSON: duplex_test.go
		t.Run(f.name, func(t *testing.T) {
			var drainHere context.CancelFunc
			s := start(t, append(f.options, func(o *server.Options) {
				o.Services.Draining, drainHere = context.WithCancel(draining)
			})...)
			ctx, c := within(t), schedulev1.NewScheduleClient(f.dial(t, s))
			due := time.Now().Add(-time.Minute).UTC()
			j := atJob("a/1", due)
			j.Data, j.ContentType, j.Metadata = []byte("data"), "x/y", map[string]string{"k": "v"}
			must[*schedulev1.CreateResponse](t)(c.Create(ctx, &schedulev1.CreateRequest{Job: j}))
			must[*schedulev1.CreateResponse](t)(c.Create(ctx, &schedulev1.CreateRequest{Job: atJob("b/1", due)}))

			w := watchJobs(t, ctx, c, &schedulev1.WatchRequest_Start{Prefix: "a/", Credit: &commonv1.Credit{Messages: 1, Bytes: 5}})
			w.credit(0, 1) // 6 bytes, as the delivery has
			first := w.delivery()
			if first.Attempt != 1 || first.Name != "a/1" || !bytes.Equal(first.Data, j.Data) || first.ContentType != "x/y" || first.Metadata["k"] != "v" ||
				!first.Scheduled.AsTime().Equal(due) || first.FiringId == "" {
				t.Error(first)
			}
			w.say(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Nack{Nack: &commonv1.Nack{DeliveryId: first.DeliveryId,
				Delay: durationpb.New(50 * time.Millisecond)}}})
			w.credit(1, 0)
			second := w.delivery()
			if second.Attempt != 2 || second.FiringId != first.FiringId || second.DeliveryId == first.DeliveryId {
				t.Error("after a nack:", second)
			}
			w.ack(first.DeliveryId) // stale: passed over
			if err := w.stream.CloseSend(); err != nil {
				t.Fatal(err)
			}

			quick := watchJobs(t, ctx, c, &schedulev1.WatchRequest_Start{Prefix: "a/", Credit: &commonv1.Credit{Messages: 2},
				AckDeadline: durationpb.New(200 * time.Millisecond)})
			third := quick.delivery()
			quick.ack(second.DeliveryId) // another stream's: passed over
			quick.say(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Extend{Extend: &commonv1.Extend{DeliveryId: third.DeliveryId}}})
			fourth := quick.delivery() // nothing was said of the third
			if third.Attempt != 3 || fourth.Attempt != 4 || fourth.FiringId != first.FiringId {
				t.Errorf("attempts %d, %d", third.Attempt, fourth.Attempt)
			}
			quick.ack(fourth.DeliveryId)
			eventually(t, "the firing is settled", func() bool {
				return must[*schedulev1.GetResponse](t)(c.Get(ctx, &schedulev1.GetRequest{Name: "a/1"})).State.Last != nil
			})

			all := watchJobs(t, ctx, c, &schedulev1.WatchRequest_Start{Credit: &commonv1.Credit{Messages: 10}})
			b := all.delivery()
			if b.Name != "b/1" {
				t.Error("a settled firing comes:", b)
			}
			drainHere()
			if all.hear().GetDraining() == nil {
				t.Error("draining is not told")
			}
			all.say(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Reject{Reject: &commonv1.Reject{DeliveryId: b.DeliveryId, Reason: "broken"}}})
			eventually(t, "a firing can be settled while it drains", func() bool {
				return must[*schedulev1.GetResponse](t)(c.Get(ctx, &schedulev1.GetRequest{Name: "b/1"})).State.Last != nil
			})
		})
	}
}

func TestScheduleWatchBadInput(t *testing.T) {
	for _, f := range fronts()[:3] {
		t.Run(f.name, func(t *testing.T) {
			s := start(t, f.options...)
			ctx, c := within(t), schedulev1.NewScheduleClient(f.dial(t, s))
			begin := &schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Start_{Start: &schedulev1.WatchRequest_Start{}}}
			for what, messages := range map[string][]*schedulev1.WatchRequest{
				"no start":    {{Message: &schedulev1.WatchRequest_Credit{Credit: &commonv1.Credit{Messages: 1}}}},
				"two starts":  {begin, begin},
				"debts":       {begin, {Message: &schedulev1.WatchRequest_Credit{Credit: &commonv1.Credit{Messages: -1}}}},
				"no deadline": {{Message: &schedulev1.WatchRequest_Start_{Start: &schedulev1.WatchRequest_Start{AckDeadline: &durationpb.Duration{}}}}},
				"too long":    {{Message: &schedulev1.WatchRequest_Start_{Start: &schedulev1.WatchRequest_Start{AckDeadline: durationpb.New(25 * time.Hour)}}}},
				"a bad delay": {begin, {Message: &schedulev1.WatchRequest_Nack{Nack: &commonv1.Nack{Delay: &durationpb.Duration{Seconds: 1, Nanos: -1}}}}},
			} {
				stream, err := c.Watch(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range messages {
					if err := stream.Send(m); err != nil {
						break // it has ended: Recv says why
					}
				}
				for err == nil {
					_, err = stream.Recv()
				}
				refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
			}
		})
	}
}
