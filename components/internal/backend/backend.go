// Package backend is what drivers of servers elsewhere have in common: how they are reached, safely, and what is said when they are
// not.
package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Reasons of calls that a back end did not do.
const (
	// ReasonUnreachable is of a server that cannot be reached, or does not answer in time.
	ReasonUnreachable components.Reason = "BACKEND_UNREACHABLE"
	// ReasonRefused is of a server that does not take the credentials, or allows them too little.
	ReasonRefused components.Reason = "BACKEND_REFUSED"
	// ReasonOutcomeUnknown is of writes that were sent and have no answer.
	ReasonOutcomeUnknown components.Reason = "BACKEND_OUTCOME_UNKNOWN"
)

// Unreachable says of err that the server at address is away. An error of ctx stays what it is; that of another context is none to the
// caller, who would take it for that of his own.
func Unreachable(ctx context.Context, address string, err error) error {
	if over := ctx.Err(); over != nil {
		return over
	}
	return components.WithReason(fmt.Errorf("%w: %s: %w", components.ErrUnavailable, address, foreign{err}), ReasonUnreachable, "address", address)
}

// Unknown says of err that a write was sent to the server at address, and that its answer is missing. An error of ctx stays what it is:
// who gives up knows that.
func Unknown(ctx context.Context, address string, err error) error {
	if over := ctx.Err(); over != nil {
		return over
	}
	return components.WithReason(fmt.Errorf("%w: it is not known whether %s did this: %w", components.ErrUnavailable, address, foreign{err}), ReasonOutcomeUnknown,
		"address", address)
}

// foreign is an error that is all but the end of a context.
type foreign struct{ error }

func (f foreign) Error() string {
	return strings.ReplaceAll(f.error.Error(), context.DeadlineExceeded.Error(), "no answer in time")
}

func (f foreign) Is(target error) bool {
	return target != context.DeadlineExceeded && target != context.Canceled && errors.Is(f.error, target)
}

func (f foreign) As(target any) bool { return errors.As(f.error, target) }

// Refused says that the server at address refuses who asks: neither the application nor a retry can change that, only who wrote the
// options.
func Refused(address string, err error) error {
	return components.WithReason(fmt.Errorf("%w: %s refuses: %w", components.ErrUnavailable, address, err), ReasonRefused, "address", address)
}

// Lost tells whether err is of a connection: of one that was not to be had, or that ended.
func Lost(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.As(err, &network)
}

// CheckAddresses refuses what is no list of HOST:PORT.
func CheckAddresses(name string, all []string) error {
	if len(all) == 0 {
		return fmt.Errorf("%s: at least one HOST:PORT is needed", name)
	}
	var faults []error
	for _, one := range all {
		host, port, err := net.SplitHostPort(one)
		if err == nil && (host == "" || port == "" || strings.ContainsAny(one, " /@")) {
			err = errors.New("no HOST:PORT")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %q is no address: %w", name, one, err))
		}
	}
	return errors.Join(faults...)
}

// Backoff is how long to wait before what failed is tried again: each time twice as long, and by chance up to half of that less, so that
// those who lost the same server do not come back at once. The zero value begins with 100 ms and goes up to 5 s. For one
// goroutine.
type Backoff struct {
	First, Most time.Duration

	next time.Duration
}

// Next answers the time until the next try.
func (b *Backoff) Next() time.Duration {
	first, most := b.First, b.Most
	if first <= 0 {
		first = 100 * time.Millisecond
	}
	if most <= 0 {
		most = 5 * time.Second
	}
	b.next = min(max(2*b.next, first), most)
	return b.next - rand.N(b.next/2+1)
}

// Reset is called after a success.
func (b *Backoff) Reset() { b.next = 0 }

// Wait waits for Next, and answers ctx's error if that ends before.
func (b *Backoff) Wait(ctx context.Context) error {
	timer := time.NewTimer(b.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Within runs what takes no context. What comes after the context has ended is shut.
func Within[T any](ctx context.Context, open func() (T, error), shut func(T) error) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := open()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = shut(r.value)
			}
		}()
		var none T
		return none, ctx.Err()
	}
}
