// Package schedule fires jobs: durably, never early, at least once, each firing to one stream of the job's application.
//
// Jobs belong to the caller. A job fires when its trigger is due, and not again before that firing is settled: what is due
// meanwhile, like what is due while nothing can fire it, is up to the job's Missed. So a job that is due every millisecond costs
// no more than its handler can do.
//
// A firing stays until it is settled, with the same id however often it is tried: while nobody watches it waits. Times of the clock
// on the wall are those of the driver; that clocks are set makes no firing early, at worst late.
package schedule

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/delivery"
)

// Drivers are the drivers of this build.
var Drivers = components.NewRegistry[Driver]("schedule")

// Reasons of errors.
const (
	ReasonJobNotFound components.Reason = "JOB_NOT_FOUND"
	ReasonJobExists   components.Reason = "JOB_EXISTS"
	ReasonJobLarge    components.Reason = "JOB_TOO_LARGE"
)

// MaxBacklog is how many missed firings All leaves at most.
const MaxBacklog = 100

// Missed says what to do about firings that were due while nothing could fire them.
type Missed int

const (
	// Once fires once for all that were missed.
	Once Missed = iota
	// Skip goes on with the next one.
	Skip
	// All fires each, up to the last MaxBacklog.
	All
)

// Job is what fires. What Data and Metadata hold must not be changed once it was handed over.
type Job struct {
	Name        string // a key; drivers see it with the caller before it
	Trigger     Trigger
	Data        []byte
	ContentType string
	Metadata    map[string]string
	Missed      Missed
	Repeats     int       // how often it fires at most; 0: without bound
	Until       time.Time // no firing is due after this; zero: without bound
}

// Same tells whether two jobs are the same in everything.
func (j Job) Same(k Job) bool {
	return j.Name == k.Name && j.ContentType == k.ContentType && j.Missed == k.Missed && j.Repeats == k.Repeats && j.Until.Equal(k.Until) &&
		j.Trigger.Cron == k.Trigger.Cron && j.Trigger.Zone == k.Trigger.Zone && j.Trigger.Every == k.Trigger.Every &&
		j.Trigger.At.Equal(k.Trigger.At) && bytes.Equal(j.Data, k.Data) && maps.Equal(j.Metadata, k.Metadata)
}

// Size is what a firing takes of credit for bytes: data and metadata.
func (j Job) Size() int64 {
	size := len(j.Data)
	for name, value := range j.Metadata {
		size += len(name) + len(value)
	}
	return int64(size)
}

// State is a job with what has become of it.
type State struct {
	Job
	Next  time.Time // zero: it fires no more
	Fired int64     // how often it has fired
	Last  time.Time // when the firing that was settled last was due; zero: none was
}

// Firing is a job that was due.
type Firing struct {
	Position  string    // names it in its session and nowhere else
	ID        string    // the same for each attempt, and for no other firing
	Attempt   int       // counts from 1
	Scheduled time.Time // when it was due
	Job       Job
}

// Driver is what a back end implements. It is safe for concurrent use. Names are NAMESPACE/APP/NAME and, like all else in a job,
// have been checked, but for what depends on the time.
type Driver interface {
	// Create stores a job and answers its state, once that is as safe as the driver promises. The same job again changes nothing,
	// even if it has fired; another of that name is Exists() unless replace is set: then it takes its place, and the firings of
	// the one before are dropped. A job that would never fire is ErrInvalid.
	Create(ctx context.Context, j Job, replace bool) (State, error)
	// Get answers NotFound() for a name that has no job.
	Get(ctx context.Context, name string) (State, error)
	// List answers the jobs whose names begin with prefix and come after the name after, sorted by name (by bytes): limit of
	// them, or fewer if there are no more or their data come to PageBytes; at least one if there is one.
	List(ctx context.Context, prefix, after string, limit int) ([]State, error)
	// Delete removes a job with its firings; that it is absent is no error.
	Delete(ctx context.Context, name string) error
	// Watch joins those who take the firings of jobs of namespace and app ("NAMESPACE/APP/"), those whose names go on with prefix.
	// The session ends with Close, not with ctx.
	Watch(ctx context.Context, w Watching) (Session, error)
	// Policy is what the component's options say of deliveries.
	Policy() Policy
}

// Watching is what a stream of firings is about.
type Watching struct {
	Application string // NAMESPACE/APP/
	Prefix      string // of names; may be empty
	// AckDeadline is how long a delivery may take. The front watches it; a driver whose back end outlives this process does so too, a
	// little later, for the case that the process is frozen.
	AckDeadline time.Duration
}

// Session is one stream's share of an application's firings. Fetch is called by one goroutine, Settle by many, Close once and
// after both. A firing is in one session at a time, of whatever process.
type Session interface {
	// Fetch waits for firings, and answers some: at most room.Messages of at most room.Bytes altogether. Room that was offered
	// before counts no longer. When ctx ends Fetch answers its error, and no firing is lost or counted as tried. Another error is
	// the end of the session.
	Fetch(ctx context.Context, room Room) ([]Firing, error)
	// Settle says what became of firings, and need not wait until that is kept. Positions that mean nothing any more are passed
	// over.
	Settle(ctx context.Context, all []Settlement) error
	// Close gives back what is not settled, at once, and keeps what is: after it has returned without error nothing settled
	// comes again.
	Close(ctx context.Context) error
}

// Room is what a session may fetch: so many firings, of so many bytes altogether.
type Room = delivery.Room

// Outcome is what became of a firing.
type Outcome int

const (
	// Done is settled: the firing has been handled, or never will be.
	Done Outcome = iota
	// Again comes again once Delay has passed, to any session.
	Again
	// Returned comes again at once, and is not counted as an attempt: the application has never seen it.
	Returned
	// Extended stays with the session, for the whole ack deadline once more.
	Extended
)

// Settlement is the outcome of one firing.
type Settlement struct {
	Position string
	Outcome  Outcome
	Delay    time.Duration // of Again; not negative, and not longer than the policy's longest
}

// Policy is the part of a driver's options that the front goes by.
type Policy struct {
	MaxAttempts int           // deliveries of one firing before it is given up
	MaxDelay    time.Duration // the longest delay of a nack; a longer one is cut
}

// NotFound is the error for a name that has no job.
func NotFound() error {
	return components.WithReason(fmt.Errorf("%w: there is no such job", components.ErrNotFound), ReasonJobNotFound)
}

// Exists is the error for a name that another job has.
func Exists() error {
	return components.WithReason(fmt.Errorf("%w: another job has that name", components.ErrExists), ReasonJobExists)
}
