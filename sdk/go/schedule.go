package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
)

// Schedule is a component that fires the application's jobs: durably, never early, at least once.
type Schedule struct {
	client    *Client
	component string
	api       schedulev1.ScheduleClient
}

// Schedule is the component of that name; empty means "default". Whether there is one shows at the first call (ErrNoComponent).
func (c *Client) Schedule(name string) *Schedule {
	return &Schedule{c, name, schedulev1.NewScheduleClient(c.API())}
}

// Trigger says when a job fires: Cron, Every or At.
type Trigger struct{ when *schedulev1.Trigger }

// Cron is a time table of five fields (minute, hour, day of month, month, day of week), or six with seconds first, or @hourly, @daily,
// @weekly, @monthly or @yearly. The zone is of the IANA data base; empty: UTC. A time that the clocks leave out fires when it would
// have been, one that comes twice fires once.
func Cron(expression, zone string) Trigger {
	return Trigger{&schedulev1.Trigger{When: &schedulev1.Trigger_Cron_{Cron: &schedulev1.Trigger_Cron{Expression: expression, TimeZone: zone}}}}
}

// Every is an interval of at least 1 ms; the first firing is one interval after the job was created.
func Every(d time.Duration) Trigger {
	return Trigger{&schedulev1.Trigger{When: &schedulev1.Trigger_Every{Every: durationpb.New(d)}}}
}

// At is once; a time that has passed fires at once.
func At(t time.Time) Trigger {
	return Trigger{&schedulev1.Trigger{When: &schedulev1.Trigger_At{At: timestamppb.New(t)}}}
}

// Missed says what to do about firings that were due while nothing could fire them, or the one before was not settled.
type Missed int32

// What can be done: fire once for all, go on with the next one, or fire each, up to the last 100.
const (
	MissedOnce Missed = iota
	MissedSkip
	MissedAll
)

var missedNames = map[Missed]schedulev1.Job_Missed{MissedOnce: schedulev1.Job_MISSED_ONCE, MissedSkip: schedulev1.Job_MISSED_SKIP, MissedAll: schedulev1.Job_MISSED_ALL}

// Job is what fires.
type Job struct {
	Name        string // a key, unique in the application
	Trigger     Trigger
	Data        []byte // what each firing carries
	ContentType string
	Metadata    map[string]string
	Missed      Missed
	Repeats     int       // how often it fires at most; 0: without bound
	Until       time.Time // no firing is due after this; zero: without bound
}

// JobState is a job with what has become of it.
type JobState struct {
	Job
	Next  time.Time // zero: it fires no more
	Fired int64     // how often it has fired
	Last  time.Time // when the firing that was settled last was due; zero: none was
}

// Create stores a job and answers when it fires next (zero: no more). The same job again is no error, so that an application can
// create its jobs whenever it starts; another one of that name is ErrExists.
func (s *Schedule) Create(ctx context.Context, j Job) (next time.Time, err error) {
	return s.create(ctx, j, false)
}

// Replace is Create, but puts the job in the place of another of its name, whose firings are dropped.
func (s *Schedule) Replace(ctx context.Context, j Job) (next time.Time, err error) {
	return s.create(ctx, j, true)
}

func (s *Schedule) create(ctx context.Context, j Job, replace bool) (time.Time, error) {
	missed, known := missedNames[j.Missed]
	if !known {
		return time.Time{}, invalid("Missed is none of MissedOnce, MissedSkip, MissedAll")
	}
	r, err := s.api.Create(ctx, &schedulev1.CreateRequest{Component: s.component, Replace: replace, Job: &schedulev1.Job{Name: j.Name,
		Trigger: j.Trigger.when, Data: j.Data, ContentType: j.ContentType, Metadata: j.Metadata, Missed: missed, Repeats: int32Of(j.Repeats),
		Until: stamp(j.Until)}})
	return moment(r.GetNext()), err
}

// stamp is unset for zero.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// moment is zero for what is unset.
func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// Get fails with ErrNotFound for a name that has no job.
func (s *Schedule) Get(ctx context.Context, name string) (JobState, error) {
	r, err := s.api.Get(ctx, &schedulev1.GetRequest{Component: s.component, Name: name})
	if err != nil {
		return JobState{}, err
	}
	return jobState(r.GetState()), nil
}

// List goes through the jobs whose names begin with prefix, in the order of their names. It asks for a page when it comes to it. After
// an error, which has no job, it ends.
func (s *Schedule) List(ctx context.Context, prefix string) iter.Seq2[JobState, error] {
	return pages(func(page string) ([]JobState, string, error) {
		r, err := s.api.List(ctx, &schedulev1.ListRequest{Component: s.component, Prefix: prefix, PageToken: page})
		if err != nil {
			return nil, "", err
		}
		jobs := make([]JobState, 0, len(r.GetJobs()))
		for _, j := range r.GetJobs() {
			jobs = append(jobs, jobState(j))
		}
		return jobs, r.GetNextPageToken(), nil
	})
}

// Delete removes a job with its firings that are not settled; that it was absent is no error.
func (s *Schedule) Delete(ctx context.Context, name string) error {
	_, err := s.api.Delete(ctx, &schedulev1.DeleteRequest{Component: s.component, Name: name})
	return err
}

func jobState(in *schedulev1.JobState) JobState {
	j := in.GetJob()
	out := JobState{Next: moment(in.GetNext()), Fired: in.GetFired(), Last: moment(in.GetLast()), Job: Job{Name: j.GetName(), Trigger: Trigger{j.GetTrigger()},
		Data: j.GetData(), ContentType: j.GetContentType(), Metadata: j.GetMetadata(), Repeats: int(j.GetRepeats()), Until: moment(j.GetUntil())}}
	for missed, name := range missedNames {
		if name == j.GetMissed() {
			out.Missed = missed
		}
	}
	return out
}
