package native

import (
	"context"
	"io"

	"github.com/outrigger-mesh/outrigger/components/lock"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

type lockServer struct {
	pb.UnimplementedLockServer
	locks    api.Components[*lock.Lock]
	draining context.Context // nil: never
}

func (s *lockServer) TryLock(ctx context.Context, in *pb.TryLockRequest) (*pb.TryLockResponse, error) {
	c, who, err := open(ctx, s.locks, in.GetComponent())
	if err != nil {
		return nil, err
	}
	r, err := lockRequest(in)
	if err != nil {
		return nil, c.Named(err)
	}
	got, err := c.TryLock(ctx, who, r)
	if err != nil {
		return nil, err
	}
	return &pb.TryLockResponse{Token: got.Token, Lease: durationpb.New(got.Lease)}, nil
}

func (s *lockServer) Lock(ctx context.Context, in *pb.LockRequest) (*pb.LockResponse, error) {
	c, who, err := open(ctx, s.locks, in.GetComponent())
	if err != nil {
		return nil, err
	}
	r, err := lockRequest(in)
	if err != nil {
		return nil, c.Named(err)
	}
	got, err := c.Lock(ctx, who, r)
	if err != nil {
		return nil, err
	}
	return &pb.LockResponse{Token: got.Token, Lease: durationpb.New(got.Lease)}, nil
}

func (s *lockServer) Renew(ctx context.Context, in *pb.RenewRequest) (*pb.RenewResponse, error) {
	c, who, err := open(ctx, s.locks, in.GetComponent())
	if err != nil {
		return nil, err
	}
	lease, err := leaseOf(in.GetLease())
	if err != nil {
		return nil, c.Named(err)
	}
	left, err := c.Renew(ctx, who, in.GetName(), in.GetToken(), lease)
	if err != nil {
		return nil, err
	}
	return &pb.RenewResponse{Lease: durationpb.New(left)}, nil
}

func (s *lockServer) Unlock(ctx context.Context, in *pb.UnlockRequest) (*pb.UnlockResponse, error) {
	c, who, err := open(ctx, s.locks, in.GetComponent())
	if err != nil {
		return nil, err
	}
	return &pb.UnlockResponse{}, c.Unlock(ctx, who, in.GetName(), in.GetToken())
}

func (s *lockServer) Hold(stream grpc.BidiStreamingServer[pb.HoldRequest, pb.HoldResponse]) error {
	first, err := stream.Recv()
	if err != nil && err != io.EOF {
		return err
	}
	in := first.GetStart() // nothing has none either
	if in == nil {
		return errNoStart
	}
	c, who, err := open(stream.Context(), s.locks, in.GetComponent())
	if err != nil {
		return err
	}
	r, err := lockRequest(in)
	if err != nil {
		return c.Named(err)
	}
	h := lock.Hold{Request: r, Wait: in.GetWait(), Heartbeats: heartbeats(stream), Tell: func(e lock.Event, l lock.Lease) error {
		return stream.Send(holdEvent(e, l))
	}}
	if s.draining != nil {
		h.Draining = s.draining.Done()
	}
	return c.Hold(stream.Context(), who, h)
}

// heartbeats are those that a stream brings. It closes when no more come.
func heartbeats(stream grpc.BidiStreamingServer[pb.HoldRequest, pb.HoldResponse]) <-chan struct{} {
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			if m.GetHeartbeat() == nil { // of a later version
				continue
			}
			select {
			case beats <- struct{}{}:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	return beats
}

func holdEvent(e lock.Event, l lock.Lease) *pb.HoldResponse {
	lease := durationpb.New(l.Lease)
	switch e {
	case lock.Taken:
		return &pb.HoldResponse{Message: &pb.HoldResponse_Held_{Held: &pb.HoldResponse_Held{Token: l.Token, Lease: lease}}}
	case lock.Renewed:
		return &pb.HoldResponse{Message: &pb.HoldResponse_Renewed_{Renewed: &pb.HoldResponse_Renewed{Lease: lease}}}
	default:
		return &pb.HoldResponse{Message: &pb.HoldResponse_Draining{Draining: &commonv1.Draining{}}}
	}
}

func lockRequest(in interface {
	GetName() string
	GetOwner() string
	GetLease() *durationpb.Duration
}) (r lock.Request, err error) {
	r = lock.Request{Name: in.GetName(), Owner: in.GetOwner()}
	r.Lease, err = leaseOf(in.GetLease())
	return r, err
}
