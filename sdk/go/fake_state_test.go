package client_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
)

// state has no idea of time, and lists a key a page.
type state struct {
	statev1.UnimplementedStateServer
	mu       sync.Mutex
	version  int
	items    map[string]*statev1.GetResponse
	token    uint64 // the newest of any lock
	barriers map[string]bool
	last     *statev1.TransactRequest
}

func newState() *state {
	return &state{items: map[string]*statev1.GetResponse{}, barriers: map[string]bool{}}
}

func (s *state) Get(_ context.Context, in *statev1.GetRequest) (*statev1.GetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if item := s.items[in.GetKey()]; item != nil {
		return item, nil
	}
	return nil, absent(in.GetKey())
}

func (s *state) Set(ctx context.Context, in *statev1.SetRequest) (*statev1.SetResponse, error) {
	r, err := s.Transact(ctx, &statev1.TransactRequest{Fence: in.GetFence(), Operations: []*statev1.Operation{{Operation: &statev1.Operation_Set_{
		Set: &statev1.Operation_Set{Key: in.GetKey(), Value: in.GetValue(), ContentType: in.GetContentType(), Ttl: in.GetTtl(), Condition: in.GetCondition(),
			Metadata: in.GetMetadata()}}}}})
	if err != nil {
		return nil, err
	}
	return &statev1.SetResponse{Version: r.GetVersions()[0]}, nil
}

func (s *state) Delete(ctx context.Context, in *statev1.DeleteRequest) (*statev1.DeleteResponse, error) {
	_, err := s.Transact(ctx, &statev1.TransactRequest{Fence: in.GetFence(), Operations: []*statev1.Operation{{Operation: &statev1.Operation_Delete_{
		Delete: &statev1.Operation_Delete{Key: in.GetKey(), IfVersion: in.GetIfVersion()}}}}})
	return &statev1.DeleteResponse{}, err
}

func (s *state) GetMany(ctx context.Context, in *statev1.GetManyRequest) (*statev1.GetManyResponse, error) {
	out := &statev1.GetManyResponse{}
	for _, key := range in.GetKeys() {
		one := &statev1.GetManyResponse_Result{Key: key}
		item, err := s.Get(ctx, &statev1.GetRequest{Key: key})
		if one.Item = item; err != nil {
			one.Error = &commonv1.Failure{Code: int32(codes.NotFound), Reason: "KEY_NOT_FOUND", Message: "not found"}
		}
		out.Results = append(out.Results, one)
	}
	return out, nil
}

func (s *state) List(_ context.Context, in *statev1.ListRequest) (*statev1.ListResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.items)) {
		if !strings.HasPrefix(key, in.GetPrefix()) || key <= in.GetPageToken() {
			continue
		}
		item := &statev1.GetResponse{Version: s.items[key].GetVersion()}
		if in.GetValues() {
			item.Value = s.items[key].GetValue()
		}
		return &statev1.ListResponse{Entries: []*statev1.ListResponse_Entry{{Key: key, Item: item}}, NextPageToken: key}, nil
	}
	return &statev1.ListResponse{}, nil
}

func (s *state) Transact(_ context.Context, in *statev1.TransactRequest) (*statev1.TransactResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = in
	if b := in.GetBarrier(); b != nil {
		if s.barriers[b.String()] {
			return &statev1.TransactResponse{Outcome: statev1.TransactResponse_OUTCOME_REPEATED}, nil
		}
		s.barriers[b.String()] = true
	}
	if f := in.GetFence(); f != nil {
		if f.GetToken() < s.token {
			return nil, problem(codes.FailedPrecondition, "STALE_FENCE", "an older token")
		}
		s.token = f.GetToken()
	}
	for i, op := range in.GetOperations() {
		if err := s.holds(op); err != nil {
			return nil, of(i, err)
		}
	}
	out := &statev1.TransactResponse{Outcome: statev1.TransactResponse_OUTCOME_APPLIED}
	for _, op := range in.GetOperations() {
		version := ""
		if set := op.GetSet(); set != nil {
			s.version++
			version = fmt.Sprint("v", s.version)
			s.items[set.GetKey()] = &statev1.GetResponse{Value: set.GetValue(), ContentType: set.GetContentType(), Version: version, Ttl: set.GetTtl(), Metadata: set.GetMetadata()}
		}
		if del := op.GetDelete(); del != nil {
			delete(s.items, del.GetKey())
		}
		out.Versions = append(out.Versions, version)
	}
	return out, nil
}

// of says which operation an error is of.
func of(i int, err error) error {
	st := status.Convert(err)
	info := st.Details()[0].(*errdetails.ErrorInfo)
	info.Metadata = map[string]string{"operation": fmt.Sprint(i)}
	st, err = status.New(st.Code(), st.Message()).WithDetails(info)
	if err != nil {
		return err
	}
	return st.Err()
}

func (s *state) holds(op *statev1.Operation) error {
	key, version, when := "", op.GetDelete().GetIfVersion(), op.GetSet().GetCondition()
	switch {
	case op.GetSet() != nil:
		key = op.GetSet().GetKey()
	case op.GetDelete() != nil:
		key = op.GetDelete().GetKey()
	default:
		key, when = op.GetCheck().GetKey(), op.GetCheck().GetCondition()
	}
	if version == "" {
		version = when.GetIfVersion()
	}
	there := s.items[key]
	if when.GetIfAbsent() && there != nil {
		return problem(codes.AlreadyExists, "KEY_EXISTS", "it is there")
	}
	if version != "" && there.GetVersion() != version {
		return problem(codes.Aborted, "VERSION_MISMATCH", "another version is there")
	}
	return nil
}
