package native

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/schedule"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type scheduleServer struct {
	pb.UnimplementedScheduleServer
	schedules api.Components[*schedule.Schedule]
	draining  context.Context
}

func (s *scheduleServer) Create(ctx context.Context, in *pb.CreateRequest) (*pb.CreateResponse, error) {
	c, who, err := open(ctx, s.schedules, in.GetComponent())
	if err != nil {
		return nil, err
	}
	j, err := job(in.GetJob())
	if err != nil {
		return nil, c.Named(err)
	}
	state, err := c.Create(ctx, who, j, in.GetReplace())
	if err != nil {
		return nil, err
	}
	return &pb.CreateResponse{Next: timestamp(state.Next)}, nil
}

func (s *scheduleServer) Get(ctx context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	c, who, err := open(ctx, s.schedules, in.GetComponent())
	if err != nil {
		return nil, err
	}
	state, err := c.Get(ctx, who, in.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.GetResponse{State: jobState(state)}, nil
}

func (s *scheduleServer) List(ctx context.Context, in *pb.ListRequest) (*pb.ListResponse, error) {
	c, who, err := open(ctx, s.schedules, in.GetComponent())
	if err != nil {
		return nil, err
	}
	jobs, next, err := c.List(ctx, who, in.GetPrefix(), int(in.GetPageSize()), in.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &pb.ListResponse{NextPageToken: next, Jobs: make([]*pb.JobState, len(jobs))}
	for i, state := range jobs {
		out.Jobs[i] = jobState(state)
	}
	return out, nil
}

func (s *scheduleServer) Delete(ctx context.Context, in *pb.DeleteRequest) (*pb.DeleteResponse, error) {
	c, who, err := open(ctx, s.schedules, in.GetComponent())
	if err != nil {
		return nil, err
	}
	return &pb.DeleteResponse{}, c.Delete(ctx, who, in.GetName())
}

var missed = map[pb.Job_Missed]schedule.Missed{pb.Job_MISSED_UNSPECIFIED: schedule.Once, pb.Job_MISSED_ONCE: schedule.Once,
	pb.Job_MISSED_SKIP: schedule.Skip, pb.Job_MISSED_ALL: schedule.All}

func job(in *pb.Job) (j schedule.Job, err error) {
	policy, known := missed[in.GetMissed()]
	if !known {
		return j, fmt.Errorf("%w: missed %d is not known", components.ErrInvalid, in.GetMissed())
	}
	j = schedule.Job{Name: in.GetName(), Data: in.GetData(), ContentType: in.GetContentType(), Metadata: in.GetMetadata(), Missed: policy,
		Repeats: int(in.GetRepeats())}
	if j.Trigger, err = trigger(in.GetTrigger()); err != nil {
		return j, err
	}
	j.Until, err = moment("until", in.GetUntil())
	return j, err
}

// trigger tells an interval of 0, which is none, from one that is not said.
func trigger(in *pb.Trigger) (t schedule.Trigger, err error) {
	switch when := in.GetWhen().(type) {
	case *pb.Trigger_Cron_:
		t.Cron, t.Zone = when.Cron.GetExpression(), when.Cron.GetTimeZone()
		if t.Cron == "" {
			err = fmt.Errorf("%w: cron: the expression is empty", components.ErrInvalid)
		}
	case *pb.Trigger_Every:
		if t.Every, err = span("every", when.Every); err == nil && t.Every == 0 {
			err = fmt.Errorf("%w: every: an interval of 0s is less than %s", components.ErrInvalid, schedule.MinEvery)
		}
	case *pb.Trigger_At:
		t.At, err = moment("at", when.At)
	}
	return t, err
}

func jobState(s schedule.State) *pb.JobState {
	j := &pb.Job{Name: s.Name, Data: s.Data, ContentType: s.ContentType, Metadata: s.Metadata, Repeats: int32(s.Repeats), Until: timestamp(s.Until),
		Missed: map[schedule.Missed]pb.Job_Missed{schedule.Once: pb.Job_MISSED_ONCE, schedule.Skip: pb.Job_MISSED_SKIP, schedule.All: pb.Job_MISSED_ALL}[s.Missed]}
	switch t := s.Trigger; {
	case t.Cron != "":
		j.Trigger = &pb.Trigger{When: &pb.Trigger_Cron_{Cron: &pb.Trigger_Cron{Expression: t.Cron, TimeZone: t.Zone}}}
	case t.Every != 0:
		j.Trigger = &pb.Trigger{When: &pb.Trigger_Every{Every: durationpb.New(t.Every)}}
	default:
		j.Trigger = &pb.Trigger{When: &pb.Trigger_At{At: timestamppb.New(t.At)}}
	}
	return &pb.JobState{Job: j, Next: timestamp(s.Next), Fired: s.Fired, Last: timestamp(s.Last)}
}
