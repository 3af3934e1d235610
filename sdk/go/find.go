package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// probeTime bounds a try where the context does not.
const probeTime = 5 * time.Second

// Find looks for the sidecar as Dial does and answers the places it tried, in order. If err is nil the last one is that of a
// sidecar; else err is what Dial would have failed with. It does not wait for a sidecar, whatever the options say.
func Find(ctx context.Context, opts ...Option) (tried []Candidate, err error) {
	c, tried := find(ctx, newOptions(opts))
	if c == nil {
		return tried, &noSidecar{tried: tried}
	}
	return tried, c.Close()
}

// find answers a client of the first candidate that is a sidecar, or nil.
func find(ctx context.Context, o *options) (*Client, []Candidate) {
	candidates := o.candidates(ctx)
	for i := range candidates {
		one := &candidates[i]
		if one.Err != nil {
			continue
		}
		if c := try(ctx, o, one, len(candidates)-i); c != nil {
			return c, candidates[:i+1]
		}
	}
	return nil, candidates
}

// try connects to one of the candidates that are left, and leaves time for the others.
func try(ctx context.Context, o *options, one *Candidate, left int) *Client {
	limit := probeTime
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline) / time.Duration(left)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := newClient(one, o)
	if err == nil {
		one.App, one.Admin, err = c.check(ctx)
	}
	if err == nil && o.foreign(one.App) {
		err = fmt.Errorf("it is the sidecar of %s", one.App)
	}
	if one.Err = err; err == nil {
		c.proven.Store(true)
		return c
	}
	if c != nil {
		_ = c.Close() // it never worked: its own error is the one that matters
	}
	return nil
}

// foreign tells whether a sidecar belongs to another application than the one that was asked for. A place that an
// option names is right by definition.
func (o *options) foreign(app string) bool {
	if app == "" || o.app == "" || len(o.places) > 0 {
		return false
	}
	namespace := o.namespace
	if namespace == "" {
		namespace = "default"
	}
	return app != namespace+"/"+o.app
}

// still fails if another application's sidecar has taken the default port meanwhile: what is meant for the own one's must not end up there.
func (o *options) still(ctx context.Context, at *Candidate) error {
	if at.named || at.target.network != "tcp" || o.app == "" {
		return nil
	}
	now := *at
	if c := try(ctx, o, &now, 1); c != nil {
		return c.Close()
	}
	return now.Err
}

// check asks whether a sidecar is there. One that is starting or draining is.
func (c *Client) check(ctx context.Context) (app, admin string, err error) {
	var header metadata.MD
	_, err = healthpb.NewHealthClient(c.cc).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header))
	if err == nil {
		return first(header, appMetadata), first(header, adminMetadata), nil
	}
	switch code := status.Code(err); {
	case code == codes.Unimplemented:
		return "", "", errors.New("it speaks gRPC but is no sidecar: it has no health service")
	case code == codes.Unauthenticated || code == codes.PermissionDenied:
		return "", "", fmt.Errorf("it refuses this client: %w", c.failed(err, nil, true))
	}
	if dial := c.dialFailure.Load(); dial != nil {
		return "", "", plain(*dial)
	}
	if ctx.Err() != nil {
		return "", "", fmt.Errorf("no answer: %w", ctx.Err())
	}
	if why, found := strings.CutPrefix(status.Convert(err).Message(), awayFrom(c.Address())); found {
		return "", "", fmt.Errorf("it does not speak gRPC: %s", why) // it was connected
	}
	return "", "", c.failed(err, nil, false)
}

// noSidecar says what was tried.
type noSidecar struct {
	tried []Candidate
	ended error // of the context, if it ended a wait
}

func (e *noSidecar) Error() string {
	var b strings.Builder
	b.WriteString(ErrNoSidecar.Error())
	for i, c := range e.tried {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		fmt.Fprintf(&b, "%s (%s): %v", c.Address, c.Source, c.Err)
	}
	if e.ended != nil {
		fmt.Fprintf(&b, " (%v while waiting for one)", e.ended)
	}
	return b.String()
}

func (e *noSidecar) Unwrap() []error {
	all := []error{ErrNoSidecar}
	for _, c := range e.tried {
		if c.Err != nil {
			all = append(all, c.Err)
		}
	}
	if e.ended != nil {
		all = append(all, e.ended)
	}
	return all
}
