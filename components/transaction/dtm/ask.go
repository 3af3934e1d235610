package dtm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// Of a question, whether it changes nothing.
const (
	safe  = true
	write = false
)

// Errors of DTM's gRPC interface, beside that it is away: it refuses, which may mean several things; or it fails, which is looked into.
var (
	errRefused = errors.New("dtm refuses")
	errFaulty  = errors.New("dtm fails")
)

// ask makes a call that DTM answers at once.
func (d *driver) ask(ctx context.Context, isSafe bool, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, d.options.RequestTimeout)
	defer cancel()
	return d.told(ctx, isSafe, do(limited))
}

// told is what an answer means.
func (d *driver) told(ctx context.Context, isSafe bool, err error) error {
	if err == nil {
		return nil
	}
	where := "dtm " + d.options.Address
	text := status.Convert(err).Message()
	switch status.Code(err) {
	case codes.Aborted:
		return fmt.Errorf("%w: %s", errRefused, text)
	case codes.Unknown, codes.Internal:
		return fmt.Errorf("%w: %s", errFaulty, text)
	case codes.ResourceExhausted:
		return fmt.Errorf("%w: %s: %s", components.ErrExhausted, where, text)
	}
	if isSafe || strings.Contains(text, "while dialing") || strings.Contains(text, "while waiting for") { // then it was not sent
		return backend.Unreachable(ctx, where, err)
	}
	return backend.Unknown(ctx, where, err)
}

// patient makes a call that DTM answers when a transaction has ended. While it lasts DTM is asked now and then whether it is there.
func (d *driver) patient(ctx context.Context, gid string, do func(context.Context) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(d.options.RequestTimeout, func() {
		for inner.Err() == nil {
			if _, err := d.web.exists(inner, gid); err != nil && inner.Err() == nil {
				cancel(err)
			}
			select {
			case <-inner.Done():
			case <-time.After(d.options.RequestTimeout):
			}
		}
	})
	defer watch.Stop()
	err := do(inner)
	if why := context.Cause(inner); err != nil && ctx.Err() == nil && why != nil {
		return backend.Unknown(ctx, "dtm "+d.options.Address, why)
	}
	return d.told(ctx, write, err)
}

// whatBecame looks for a transaction after a call about it that went wrong, for as long as DTM has to answer.
func (d *driver) whatBecame(ctx context.Context, gid string) (*record, error) {
	limited, cancel := context.WithTimeout(ctx, d.options.RequestTimeout)
	defer cancel()
	wait := backend.Backoff{First: 20 * time.Millisecond, Most: 200 * time.Millisecond}
	for {
		r, err := d.web.find(limited, gid)
		if err == nil || errors.Is(err, components.ErrNotFound) {
			return r, err
		}
		if wait.Wait(limited) != nil {
			return nil, backend.Unreachable(ctx, d.web.where(), err)
		}
	}
}

// read is what DTM knows of a transaction.
func (d *driver) read(ctx context.Context, key string) (gid string, r *record, c custom, p transaction.Policy, err error) {
	if gid, err = d.gidOf(key); err != nil {
		return gid, nil, c, p, err
	}
	if r, err = d.web.find(ctx, gid); err != nil {
		return gid, nil, c, p, err
	}
	if c, p, err = readCustom(r.Row.CustomData); err != nil {
		err = fmt.Errorf("%w: the transaction in DTM cannot be read: %w", components.ErrDamaged, err)
	}
	return gid, r, c, p, err
}

var errNotStored = transaction.NotStored(errors.New("dtm has not stored it"))

// took makes sure that DTM has stored what it was told of a transaction, whose state is another one then than before; "": it was not there. When its data
// base takes no connection, DTM goes on with what it could not store, and answers that all is well.
func (d *driver) took(ctx context.Context, gid, before string) error {
	r, err := d.web.row(ctx, gid)
	switch {
	case err != nil:
		return backend.Unknown(ctx, d.web.where(), err)
	case r == nil || r.Status == before:
		return errNotStored
	}
	return nil
}

// isStored makes sure, once, that DTM has stored a transaction that it was told of.
func (d *driver) isStored(ctx context.Context, gid string, k *known) error {
	if k.stored.Load() {
		return nil
	}
	err := d.took(ctx, gid, "")
	k.stored.Store(err == nil)
	return err
}

// knows answers what is known of a transaction that branches are called of, from DTM if it has to.
func (d *driver) knows(ctx context.Context, gid, key string) (*known, error) {
	now := time.Now()
	d.mu.Lock()
	k := d.all[gid]
	d.mu.Unlock()
	if k == nil {
		_, r, c, p, err := d.read(ctx, key)
		if err != nil {
			return nil, err
		}
		fresh := &known{key: key, kind: transaction.Kind(r.Row.Type), told: d.toldOf(key), policy: p, trace: c.Ours.trace()}
		fresh.stored.Store(true)
		if fresh.kind == transaction.Message && len(r.Ops) > 0 {
			b, err := d.unseal(gid, r.Ops[0].Payload)
			if err != nil {
				return nil, err
			}
			fresh.check = b.Confirm
		}
		k = d.remember(gid, fresh)
	}
	k.mu.Lock()
	k.seen = now
	k.mu.Unlock()
	return k, nil
}

// remember keeps what is known, unless something is known already, and answers that.
func (d *driver) remember(gid string, k *known) *known {
	d.mu.Lock()
	defer d.mu.Unlock()
	if there := d.all[gid]; there != nil {
		return there
	}
	k.seen = time.Now()
	d.all[gid] = k
	return k
}

func (d *driver) forget(gid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, gid)
}

func (d *driver) peek(gid string) *known {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[gid]
}

// tidy forgets what DTM has not called for in a while, and tells whether it should have called for something.
func (d *driver) tidy(now time.Time, app string, within time.Duration) (waiting bool) {
	for gid, k := range d.knownNow() {
		if application(k.key) == app && k.waits(now, within) {
			waiting = true
		} else if k.idle(now) {
			d.forget(gid)
		}
	}
	return waiting
}

func (d *driver) knownNow() map[string]*known {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.all)
}

// toldOf is the gid that branches are told.
func (d *driver) toldOf(key string) string { return transaction.Told(d.id.Name, key) }
