package client_test

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	sequencev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/sequence/v1"
)

// locks have no leases that end.
type locks struct {
	lockv1.UnimplementedLockServer
	mu       sync.Mutex
	token    uint64
	holders  map[string]*lockv1.TryLockRequest
	tokens   map[string]uint64
	changed  chan struct{} // closed at each unlock
	draining chan struct{} // closed by the test
	mute     bool          // heartbeats are not answered
	beats    int
}

func newLocks() *locks {
	return &locks{holders: map[string]*lockv1.TryLockRequest{}, tokens: map[string]uint64{}, changed: make(chan struct{}), draining: make(chan struct{})}
}

func (l *locks) TryLock(_ context.Context, in *lockv1.TryLockRequest) (*lockv1.TryLockResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.Lease == nil {
		in.Lease = durationpb.New(30e9)
	}
	if h := l.holders[in.GetName()]; h == nil {
		l.token++
		l.tokens[in.GetName()] = l.token
	} else if in.GetOwner() == "" || h.GetOwner() != in.GetOwner() {
		return nil, problem(codes.FailedPrecondition, "LOCK_HELD", "another owner holds the lock")
	}
	l.holders[in.GetName()] = in
	return &lockv1.TryLockResponse{Token: l.tokens[in.GetName()], Lease: in.GetLease()}, nil
}

func (l *locks) Lock(ctx context.Context, in *lockv1.LockRequest) (*lockv1.LockResponse, error) {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		got, err := l.TryLock(ctx, &lockv1.TryLockRequest{Name: in.GetName(), Owner: in.GetOwner(), Lease: in.GetLease()})
		if err == nil {
			return &lockv1.LockResponse{Token: got.GetToken(), Lease: got.GetLease()}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *locks) Renew(_ context.Context, in *lockv1.RenewRequest) (*lockv1.RenewResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tokens[in.GetName()] != in.GetToken() {
		return nil, problem(codes.FailedPrecondition, "LOCK_LOST", "the token does not hold the lock")
	}
	return &lockv1.RenewResponse{Lease: in.GetLease()}, nil
}

func (l *locks) Unlock(_ context.Context, in *lockv1.UnlockRequest) (*lockv1.UnlockResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tokens[in.GetName()] != in.GetToken() {
		return nil, problem(codes.FailedPrecondition, "LOCK_LOST", "the token does not hold the lock")
	}
	delete(l.tokens, in.GetName())
	delete(l.holders, in.GetName())
	close(l.changed)
	l.changed = make(chan struct{})
	return &lockv1.UnlockResponse{}, nil
}

func (l *locks) Hold(s grpc.BidiStreamingServer[lockv1.HoldRequest, lockv1.HoldResponse]) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	in := m.GetStart()
	var got *lockv1.LockResponse
	if in.GetWait() {
		got, err = l.Lock(s.Context(), &lockv1.LockRequest{Name: in.GetName(), Lease: in.GetLease()})
	} else {
		var now *lockv1.TryLockResponse
		now, err = l.TryLock(s.Context(), &lockv1.TryLockRequest{Name: in.GetName(), Lease: in.GetLease()})
		got = &lockv1.LockResponse{Token: now.GetToken(), Lease: now.GetLease()}
	}
	if err != nil {
		return err
	}
	defer func() {
		_, _ = l.Unlock(context.Background(), &lockv1.UnlockRequest{Name: in.GetName(), Token: got.GetToken()}) // a test may have taken it away
	}()
	held := &lockv1.HoldResponse_Held{Token: got.GetToken(), Lease: got.GetLease()}
	if err := s.Send(&lockv1.HoldResponse{Message: &lockv1.HoldResponse_Held_{Held: held}}); err != nil {
		return err
	}
	return l.keep(s, in, got)
}

func (l *locks) keep(s grpc.BidiStreamingServer[lockv1.HoldRequest, lockv1.HoldResponse], in *lockv1.HoldRequest_Start, got *lockv1.LockResponse) error {
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		for {
			if _, err := s.Recv(); err != nil {
				return
			}
			select {
			case beats <- struct{}{}:
			case <-s.Context().Done():
				return
			}
		}
	}()
	l.mu.Lock()
	draining := l.draining
	l.mu.Unlock()
	for {
		select {
		case <-draining:
			draining = nil
			if err := s.Send(&lockv1.HoldResponse{Message: &lockv1.HoldResponse_Draining{Draining: &commonv1.Draining{}}}); err != nil {
				return err
			}
		case _, more := <-beats:
			if !more {
				return nil
			}
			l.mu.Lock()
			l.beats++
			mute := l.mute
			l.mu.Unlock()
			if mute {
				continue
			}
			left, err := l.Renew(s.Context(), &lockv1.RenewRequest{Name: in.GetName(), Token: got.GetToken(), Lease: got.GetLease()})
			if err != nil {
				return err
			}
			renewed := &lockv1.HoldResponse_Renewed{Lease: left.GetLease()}
			if err := s.Send(&lockv1.HoldResponse{Message: &lockv1.HoldResponse_Renewed_{Renewed: renewed}}); err != nil {
				return err
			}
		}
	}
}

// sequences is one for all keys.
type sequences struct {
	sequencev1.UnimplementedSequenceServer
	mu    sync.Mutex
	given int64
}

func (s *sequences) Next(_ context.Context, in *sequencev1.NextRequest) (*sequencev1.NextResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.GetOrder() == sequencev1.NextRequest_ORDER_UNIQUE {
		s.given += 1000
	}
	s.given += int64(in.GetSize())
	return &sequencev1.NextResponse{First: s.given - int64(in.GetSize()) + 1, Last: s.given}, nil
}
