package client_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// broken is a sidecar that delivers as a test wants it to, in a bubble whose time is not real.
type broken struct {
	c     *client.Client
	deals bool // in firings, else in events

	mu     sync.Mutex
	begun  []time.Time // of each stream
	script func(*line) error
}

// line is a stream of such a sidecar that has read Start, and no more.
type line struct {
	grpc.ServerStream
	events bool
}

// bubble runs a test with events, and once more with firings.
func bubble(t *testing.T, script func(*line) error, test func(*testing.T, *broken)) {
	for name, deals := range map[string]bool{"events": false, "firings": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &broken{deals: deals, script: script}
				b.c = inMemory(t, func(s *grpc.Server) {
					pubsubv1.RegisterPubSubServer(s, brokenPubSub{b: b})
					schedulev1.RegisterScheduleServer(s, brokenSchedule{b: b})
				})
				test(t, b)
			})
		})
	}
}

// inMemory is a client of a sidecar that needs no network.
func inMemory(t *testing.T, register func(*grpc.Server)) *client.Client {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}))
	healthpb.RegisterHealthServer(s, health{w: newWorld()})
	register(s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // it ends with Stop
	c, err := client.Dial(t.Context(), client.WithAddress("127.0.0.1:7070"), client.WithGrace(0),
		client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Stop(); serving.Wait() })
	return c
}

type brokenPubSub struct {
	pubsubv1.UnimplementedPubSubServer
	b *broken
}

func (p brokenPubSub) Subscribe(s pubsubv1.PubSub_SubscribeServer) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return p.b.serve(&line{s, true})
}

type brokenSchedule struct {
	schedulev1.UnimplementedScheduleServer
	b *broken
}

func (p brokenSchedule) Watch(s schedulev1.Schedule_WatchServer) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return p.b.serve(&line{s, false})
}

func (b *broken) serve(l *line) error {
	b.mu.Lock()
	b.begun = append(b.begun, time.Now())
	b.mu.Unlock()
	return b.script(l)
}

// pauses are the times between the beginnings of streams.
func (b *broken) pauses() (all []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.begun[1:] {
		all = append(all, b.begun[i+1].Sub(b.begun[i]))
	}
	return all
}

// consume handles what is delivered, one at a time, with an ack deadline of 30 s.
func (b *broken) consume(ctx context.Context, handle func(ctx context.Context, data string) error) error {
	if b.deals {
		return b.c.Schedule("").Handle(ctx, client.HandleOptions{Concurrency: 1}, func(ctx context.Context, f client.Firing) error {
			return handle(ctx, string(f.Data))
		})
	}
	return b.c.PubSub("").Subscribe(ctx, "t", client.SubscribeOptions{Concurrency: 1}, func(ctx context.Context, e client.Event) error {
		return handle(ctx, string(e.Data))
	})
}

func (l *line) started() error {
	if l.events {
		return l.SendMsg(&pubsubv1.SubscribeResponse{Message: &pubsubv1.SubscribeResponse_Started_{Started: &pubsubv1.SubscribeResponse_Started{}}})
	}
	return l.SendMsg(&schedulev1.WatchResponse{Message: &schedulev1.WatchResponse_Started_{Started: &schedulev1.WatchResponse_Started{}}})
}

func (l *line) draining() error {
	d := &commonv1.Draining{}
	if l.events {
		return l.SendMsg(&pubsubv1.SubscribeResponse{Message: &pubsubv1.SubscribeResponse_Draining{Draining: d}})
	}
	return l.SendMsg(&schedulev1.WatchResponse{Message: &schedulev1.WatchResponse_Draining{Draining: d}})
}

// deliver has the data be the id, too.
func (l *line) deliver(data string) error {
	if l.events {
		return l.SendMsg(&pubsubv1.SubscribeResponse{Message: &pubsubv1.SubscribeResponse_Delivery_{Delivery: &pubsubv1.SubscribeResponse_Delivery{
			DeliveryId: data, Attempt: 1, Topic: "t", Event: &pubsubv1.Event{Data: []byte(data)}}}})
	}
	return l.SendMsg(&schedulev1.WatchResponse{Message: &schedulev1.WatchResponse_Delivery_{Delivery: &schedulev1.WatchResponse_Delivery{
		DeliveryId: data, Attempt: 1, FiringId: data, Name: data, Data: []byte(data)}}})
}

// nothing is a message that says nothing this client knows of.
func (l *line) nothing() error {
	if l.events {
		return l.SendMsg(&pubsubv1.SubscribeResponse{})
	}
	return l.SendMsg(&schedulev1.WatchResponse{})
}

// said is what the client says next.
func (l *line) said() (*pubsubv1.SubscribeRequest, error) {
	if l.events {
		m := &pubsubv1.SubscribeRequest{}
		return m, l.RecvMsg(m)
	}
	m, same := &schedulev1.WatchRequest{}, &pubsubv1.SubscribeRequest{}
	err := l.RecvMsg(m)
	switch {
	case m.GetCredit() != nil:
		same.Message = &pubsubv1.SubscribeRequest_Credit{Credit: m.GetCredit()}
	case m.GetAck() != nil:
		same.Message = &pubsubv1.SubscribeRequest_Ack{Ack: m.GetAck()}
	case m.GetReject() != nil:
		same.Message = &pubsubv1.SubscribeRequest_Reject{Reject: m.GetReject()}
	case m.GetNack() != nil:
		same.Message = &pubsubv1.SubscribeRequest_Nack{Nack: m.GetNack()}
	case m.GetExtend() != nil:
		same.Message = &pubsubv1.SubscribeRequest_Extend{Extend: m.GetExtend()}
	}
	return same, err
}

// leftovers are the goroutines of this package that are there.
func leftovers(of string) string {
	buf := make([]byte, 1<<20)
	var left []string
	for _, one := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(one, of) {
			left = append(left, one)
		}
	}
	return strings.Join(left, "\n\n")
}

// brokenLocks gives each lock to everybody, for a lease that may be none.
type brokenLocks struct {
	lockv1.UnimplementedLockServer
	lease time.Duration
}

func (b brokenLocks) Hold(s lockv1.Lock_HoldServer) error {
	lease := durationpb.New(b.lease)
	if _, err := s.Recv(); err != nil {
		return err
	}
	if err := s.Send(&lockv1.HoldResponse{Message: &lockv1.HoldResponse_Held_{Held: &lockv1.HoldResponse_Held{Token: 1, Lease: lease}}}); err != nil {
		return err
	}
	for {
		if _, err := s.Recv(); err != nil {
			return nil
		}
		if err := s.Send(&lockv1.HoldResponse{Message: &lockv1.HoldResponse_Renewed_{Renewed: &lockv1.HoldResponse_Renewed{Lease: lease}}}); err != nil {
			return err
		}
	}
}

// lateLocks gives each lock a minute after it was asked for, and the first one to somebody else before its holder says anything.
type lateLocks struct {
	lockv1.UnimplementedLockServer
	given uint64
}

func (b *lateLocks) Hold(s lockv1.Lock_HoldServer) error {
	lease := durationpb.New(time.Second)
	if _, err := s.Recv(); err != nil {
		return err
	}
	b.given++ // one is asked for after the other
	token := b.given
	time.Sleep(time.Minute)
	if err := s.Send(&lockv1.HoldResponse{Message: &lockv1.HoldResponse_Held_{Held: &lockv1.HoldResponse_Held{Token: token, Lease: lease}}}); err != nil {
		return err
	}
	for {
		if _, err := s.Recv(); err != nil {
			return nil
		}
		if token == 1 {
			return problem(codes.FailedPrecondition, "LOCK_LOST", "no heartbeat came")
		}
		if err := s.Send(&lockv1.HoldResponse{Message: &lockv1.HoldResponse_Renewed_{Renewed: &lockv1.HoldResponse_Renewed{Lease: lease}}}); err != nil {
			return err
		}
	}
}
