package etcdconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Safe and Once say of a call whether it may be done twice.
const (
	Safe = true
	Once = false
)

// Do has do called with the member that is used. What may be done twice is tried again, with another member if need be, until the time
// is over; of what may not, and whose answer is missing, it says so. Errors that are not of the connection come back with what etcd
// says of them in the chain.
func (c *Conn) Do(ctx context.Context, twice bool, do func(ctx context.Context, client *clientv3.Client) error) error {
	return c.with(ctx, twice, func(ctx context.Context, m *Member) error { return do(ctx, m.Client) })
}

func (c *Conn) with(ctx context.Context, twice bool, do func(context.Context, *Member) error) error {
	limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	wait := backend.Backoff{First: 20 * time.Millisecond, Most: 500 * time.Millisecond}
	var last error
	for {
		m, err := c.Member(limited)
		if err != nil {
			if limited.Err() == nil {
				return err
			}
			return backend.Unreachable(ctx, c.where, cmp.Or(last, errNoAnswer))
		}
		try, end := c.attempt(limited, twice)
		err = do(try, m)
		end()
		kind := kindOf(err)
		switch {
		case kind == answered:
			return err
		case kind == refusal:
			return backend.Refused("etcd "+m.address, err)
		case kind == tooMuch:
			return fmt.Errorf("%w: etcd %s: %w", components.ErrExhausted, m.address, err)
		}
		if ctx.Err() == nil {
			m.look()
		}
		if !twice && kind != unsent {
			return backend.Unknown(ctx, "etcd "+m.address, err)
		}
		if last = err; wait.Wait(limited) != nil {
			return backend.Unreachable(ctx, "etcd "+m.address, last)
		}
	}
}

var errNoAnswer = errors.New("no answer")

// attempt bounds a try of what may be done twice: a member loses what it has passed on to a leader that is gone, and waits for it.
func (c *Conn) attempt(ctx context.Context, twice bool) (context.Context, context.CancelFunc) {
	if !twice {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.options.Timeout/2)
}

// Check asks etcd for a key, which takes a leader, and the permission to read it.
func (c *Conn) Check(ctx context.Context, key string) error {
	return c.Do(ctx, Safe, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Get(ctx, key, clientv3.WithKeysOnly())
		return err
	})
}

// CheckWritable is Check and sees that keys may be written, without writing one.
func (c *Conn) CheckWritable(ctx context.Context, key string) error {
	return c.Do(ctx, Safe, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "<", 0)).Then(clientv3.OpPut(key, "")).
			Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).Commit()
		return err
	})
}

// Away tells whether an error of this package says that etcd could not be reached, or did not answer.
func Away(err error) bool {
	return hasReason(err, backend.ReasonUnreachable) || hasReason(err, backend.ReasonOutcomeUnknown)
}

func refused(err error) bool { return hasReason(err, backend.ReasonRefused) }

func hasReason(err error, reason components.Reason) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == reason
}

// kind is what an error of the library means.
type kind int

const (
	answered kind = iota // it is of the request
	away                 // the connection was lost, or the members do not agree
	unsent               // nothing was sent
	refusal              // of who asks
	tooMuch
)

func kindOf(err error) kind {
	if err == nil {
		return answered
	}
	text := err.Error()
	switch codeOf(err) {
	case codes.Unavailable:
		if strings.Contains(text, "transport: Error while dialing") || strings.Contains(text, "authentication handshake failed") {
			return unsent
		}
		return away
	case codes.DeadlineExceeded, codes.Canceled:
		return away
	case codes.PermissionDenied, codes.Unauthenticated:
		return refusal
	case codes.ResourceExhausted:
		return tooMuch
	}
	switch {
	case isOne(err, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision):
		return refusal
	case isOne(err, rpctypes.ErrRequestTooLarge):
		return tooMuch
	case isOne(err, rpctypes.ErrStopped, rpctypes.ErrTimeout):
		return away
	}
	return answered
}

func isOne(err error, of ...error) bool {
	for _, one := range of {
		if errors.Is(err, one) || strings.HasSuffix(err.Error(), one.Error()) {
			return true
		}
	}
	return false
}

// codeOf is the code that gRPC or etcd has given an error. One of a context that has ended is as if the call had no answer.
func codeOf(err error) codes.Code {
	var etcd rpctypes.EtcdError
	switch {
	case errors.As(err, &etcd):
		return etcd.Code()
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled), errors.Is(err, clientv3.ErrNoAvailableEndpoints):
		return codes.Canceled
	}
	return status.Code(err)
}

// Revision is that of etcd as it is now, asked for with a key that may be read.
func (c *Conn) Revision(ctx context.Context, key string) (revision int64, err error) {
	err = c.Do(ctx, Safe, func(ctx context.Context, client *clientv3.Client) error {
		got, err := client.Get(ctx, key, clientv3.WithKeysOnly())
		if err == nil {
			revision = got.Header.Revision
		}
		return err
	})
	return revision, err
}
