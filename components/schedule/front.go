package schedule

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	defaultDeadline = 30 * time.Second
	longestDeadline = 24 * time.Hour
)

// Schedule is the front that callers use. All its errors wrap one of the kinds of components, or ctx's error, and name the
// component. Safe for concurrent use.
type Schedule struct {
	component *components.Component[Driver]
	log       *slog.Logger
}

// New makes the front of a component. It logs what becomes of firings that are given up; log may be nil.
func New(c *components.Component[Driver], log *slog.Logger) *Schedule {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Schedule{component: c, log: log}
}

// Named says of an error in a request, found before the call, which component the request was for.
func (s *Schedule) Named(err error) error { return s.component.Named(err) }

// Create stores a job and answers its state. The same job again is no error and changes nothing. Another one of that name is
// ErrExists, or is replaced if that is asked for.
func (s *Schedule) Create(ctx context.Context, caller components.Caller, j Job, replace bool) (state State, err error) {
	if err := j.check(); err != nil {
		return State{}, s.component.Named(err)
	}
	full, err := caller.StoredKey(j.Name)
	if err != nil {
		return State{}, s.component.Named(err)
	}
	call, err := s.component.Begin(ctx, "create")
	if err != nil {
		return State{}, err
	}
	defer call.End(&err)
	name := j.Name
	j.Name, j.Metadata = full, maps.Clone(j.Metadata)
	state, err = call.Driver.Create(ctx, j, replace)
	state.Name = name
	return state, err
}

// Get answers a job, ErrNotFound if there is none of that name.
func (s *Schedule) Get(ctx context.Context, caller components.Caller, name string) (state State, err error) {
	full, err := caller.StoredKey(name)
	if err != nil {
		return State{}, s.component.Named(err)
	}
	call, err := s.component.Begin(ctx, "get")
	if err != nil {
		return State{}, err
	}
	defer call.End(&err)
	state, err = call.Driver.Get(ctx, full)
	state.Name = name
	return state, err
}

// List answers the jobs whose names begin with prefix, in the order of their names: pageSize of them (0: 1000), or fewer when
// they are large, and the token of the next page, empty on the last one.
func (s *Schedule) List(ctx context.Context, caller components.Caller, prefix string, pageSize int, pageToken string) (
	jobs []State, next string, err error,
) {
	limit, after, err := components.Page(pageSize, pageToken)
	if err != nil {
		return nil, "", s.component.Named(err)
	}
	own, err := application(caller, prefix)
	if err != nil {
		return nil, "", s.component.Named(err)
	}
	call, err := s.component.Begin(ctx, "list")
	if err != nil {
		return nil, "", err
	}
	defer call.End(&err)
	if after != "" {
		after = own + after
	}
	if jobs, err = call.Driver.List(ctx, own+prefix, after, limit+1); err != nil {
		return nil, "", err
	}
	n, more := page(jobs, limit)
	for i := range jobs[:n] {
		jobs[i].Name = jobs[i].Name[len(own):]
	}
	if more {
		next = components.PageToken(jobs[n-1].Name)
	}
	return jobs[:n], next, nil
}

// page says how many of the jobs fit, and whether there may be more of them behind.
func page(jobs []State, limit int) (n int, more bool) {
	bytes := int64(0)
	for i := range jobs {
		if bytes += jobs[i].Size(); i == limit || i > 0 && bytes > PageBytes {
			return i, true
		}
	}
	return len(jobs), bytes >= PageBytes
}

// application is what comes before the names of the caller's jobs.
func application(caller components.Caller, prefix string) (string, error) {
	if err := components.CheckPrefix(prefix); err != nil {
		return "", err
	}
	whole, err := caller.StoredKey("k")
	if err != nil {
		return "", err
	}
	return whole[:len(whole)-1], nil
}

// Delete removes a job with its firings that are not settled; that it is absent is no error.
func (s *Schedule) Delete(ctx context.Context, caller components.Caller, name string) (err error) {
	full, err := caller.StoredKey(name)
	if err != nil {
		return s.component.Named(err)
	}
	call, err := s.component.Begin(ctx, "delete")
	if err != nil {
		return err
	}
	defer call.End(&err)
	return call.Driver.Delete(ctx, full)
}

// Watch takes the caller's firings of jobs whose names begin with prefix, each to be settled within the deadline (0: 30 s). The
// stream ends with ctx, when the component is replaced (ErrUnavailable, reason RELOADED) and when the back end is lost; it must be
// closed.
func (s *Schedule) Watch(ctx context.Context, caller components.Caller, prefix string, deadline time.Duration) (*Stream, error) {
	own, err := application(caller, prefix)
	if err != nil {
		return nil, s.component.Named(err)
	}
	if deadline == 0 {
		deadline = defaultDeadline
	}
	if deadline < 0 || deadline > longestDeadline {
		return nil, s.component.Named(invalid("an ack deadline of %s is not above 0 and at most %s", deadline, longestDeadline))
	}
	call, ctx, err := s.component.Stream(ctx, "watch")
	if err != nil {
		return nil, err
	}
	session, err := call.Driver.Watch(ctx, Watching{Application: own, Prefix: prefix, AckDeadline: deadline})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		call.End(&err)
		return nil, err
	}
	return newStream(ctx, s, call, session, len(own), deadline), nil
}
