package native

import (
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// span is 0 for what is unset.
func span(field string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil {
		return 0, fmt.Errorf("%w: %s %ds %dns is not a duration", components.ErrInvalid, field, d.GetSeconds(), d.GetNanos())
	}
	return d.AsDuration(), nil
}

// moment is zero for what is unset.
func moment(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if t.CheckValid() != nil {
		return time.Time{}, fmt.Errorf("%w: %s %ds %dns is not a time", components.ErrInvalid, field, t.GetSeconds(), t.GetNanos())
	}
	return t.AsTime(), nil
}

// timestamp is unset for zero.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// timeToLive is 0 for what is unset, and never for what is set. What a Duration of Go cannot hold becomes its longest one, which
// is longer than any front allows.
func timeToLive(d *durationpb.Duration) (time.Duration, error) {
	ttl, err := span("ttl", d)
	if err == nil && d != nil && ttl <= 0 {
		err = fmt.Errorf("%w: a ttl of %s is not positive; leave it unset for a key that does not expire", components.ErrInvalid, ttl)
	}
	return ttl, err
}

// ackDeadline is 0 for what is unset, and never for what is set.
func ackDeadline(d *durationpb.Duration) (time.Duration, error) {
	deadline, err := span("ack_deadline", d)
	if err == nil && d != nil && deadline <= 0 {
		err = fmt.Errorf("%w: an ack deadline of %s is not above 0", components.ErrInvalid, deadline)
	}
	return deadline, err
}

// leaseOf is 0 for what is unset, and never for what is set; what is below 0 the front refuses.
func leaseOf(d *durationpb.Duration) (time.Duration, error) {
	lease, err := span("lease", d)
	if err == nil && d != nil && lease == 0 {
		err = fmt.Errorf("%w: a lease of %s is not above 0", components.ErrInvalid, lease)
	}
	return lease, err
}
