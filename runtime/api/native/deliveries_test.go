package native

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// handOut delivers once, and keeps in mind what comes back.
type handOut struct {
	some     []string
	returned []string
}

func (h *handOut) Next() ([]string, error)          { return h.some, nil }
func (h *handOut) Grant(int64, int64) error         { return nil }
func (h *handOut) Ack(...string) error              { return nil }
func (h *handOut) Nack(string, time.Duration) error { return nil }
func (h *handOut) Reject(string, string) error      { return nil }
func (h *handOut) Extend(string) error              { return nil }
func (h *handOut) Drain()                           {}
func (h *handOut) Close()                           {}

func (h *handOut) Return(ids ...string) error {
	h.returned = append(h.returned, ids...)
	return nil
}

var errBroken = errors.New("broken")

// breaks sends so many and no more.
type breaks struct{ left int }

func (b *breaks) Send(*string) error {
	if b.left--; b.left < 0 {
		return errBroken
	}
	return nil
}

// TestWhatIsNotSentGoesBack: a stream breaks in the middle of what was fetched for it.
func TestWhatIsNotSentGoesBack(t *testing.T) {
	h := &handOut{some: []string{"a", "b", "c", "d"}}
	same := func(s *string) *string { return s }
	d := &deliveries[string, string]{share: h, delivery: same, id: func(s *string) string { return "id " + *s }}
	if err := d.tell(&breaks{left: 2}); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	if want := []string{"id c", "id d"}; !slices.Equal(h.returned, want) {
		t.Errorf("%q went back, want %q", h.returned, want)
	}
}

// cutOff is a stream that a client opens and leaves: that is heard before the context ends.
type cutOff struct {
	grpc.ServerStream
	heard int
}

func (c *cutOff) Context() context.Context               { return context.Background() }
func (c *cutOff) Send(*pubsubv1.SubscribeResponse) error { return nil }

func (c *cutOff) Recv() (*pubsubv1.SubscribeRequest, error) {
	if c.heard++; c.heard > 1 {
		return nil, status.Error(codes.Canceled, "context canceled")
	}
	return &pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Start_{Start: &pubsubv1.SubscribeRequest_Start{}}}, nil
}

// waits is a share of which nothing comes, and which says of the end of its context what fronts do.
type waits struct {
	handOut
	ctx context.Context
}

func (w *waits) Next() ([]string, error) {
	<-w.ctx.Done()
	return nil, fmt.Errorf("pubsub \"default\": %w", context.Cause(w.ctx))
}

// TestAClientThatLeavesIsNoFailure: what its stream ends with is told as it is, and is not taken for a fault of the component.
func TestAClientThatLeavesIsNoFailure(t *testing.T) {
	begin := func(ctx context.Context, _ *pubsubv1.SubscribeRequest_Start) (*deliveries[pubsubv1.SubscribeResponse, string], error) {
		return &deliveries[pubsubv1.SubscribeResponse, string]{share: &waits{ctx: ctx}}, nil
	}
	err := deliver(&cutOff{}, nil, begin)
	if code := api.Code(err); code != codes.Canceled {
		t.Errorf("%v, which is %s, want Canceled", err, code)
	}
}
