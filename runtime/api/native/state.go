package native

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

type stateServer struct {
	pb.UnimplementedStateServer
	states  api.Components[*state.State]
	largest int // of answers, in bytes; 0: any
}

func (s *stateServer) Get(ctx context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	c, who, err := open(ctx, s.states, in.GetComponent())
	if err != nil {
		return nil, err
	}
	if !fastgrpc.MayWait(ctx) { // first on the connection's reader: most items that are asked for are in memory
		item, ok := c.Peek(ctx, who, in.GetKey())
		if !ok {
			return nil, fastgrpc.ErrWouldBlock
		}
		return stateItem(item), nil
	}
	item, err := c.Get(ctx, who, in.GetKey())
	if err != nil {
		return nil, err
	}
	return stateItem(item), nil
}

func (s *stateServer) Set(ctx context.Context, in *pb.SetRequest) (*pb.SetResponse, error) {
	c, who, err := open(ctx, s.states, in.GetComponent())
	if err != nil {
		return nil, err
	}
	op, err := s.setOperation(in)
	if err != nil {
		return nil, c.Named(err)
	}
	if !fastgrpc.MayWait(ctx) {
		begin := c.SetLater(ctx, who, op.Key, op.Item, op.Condition, fence(in.GetFence()))
		if begin == nil {
			return nil, fastgrpc.ErrWouldBlock
		}
		return nil, &fastgrpc.Later{Begin: func(done func(proto.Message, error)) {
			begin(func(version string, err error) { done(&pb.SetResponse{Version: version}, err) })
		}}
	}
	version, err := c.Set(ctx, who, op.Key, op.Item, op.Condition, fence(in.GetFence()))
	return &pb.SetResponse{Version: version}, err
}

func (s *stateServer) Delete(ctx context.Context, in *pb.DeleteRequest) (*pb.DeleteResponse, error) {
	c, who, err := open(ctx, s.states, in.GetComponent())
	if err != nil {
		return nil, err
	}
	return &pb.DeleteResponse{}, c.Delete(ctx, who, in.GetKey(), in.GetIfVersion(), fence(in.GetFence()))
}

func (s *stateServer) GetMany(ctx context.Context, in *pb.GetManyRequest) (*pb.GetManyResponse, error) {
	c, who, err := open(ctx, s.states, in.GetComponent())
	if err != nil {
		return nil, err
	}
	results, err := c.GetMany(ctx, who, in.GetKeys())
	if err != nil {
		return nil, err
	}
	out := &pb.GetManyResponse{Results: make([]*pb.GetManyResponse_Result, len(results))}
	for i, r := range results {
		one := &pb.GetManyResponse_Result{Key: r.Key, Error: api.Failure(r.Err)}
		if r.Err == nil {
			one.Item = stateItem(r.Item)
		}
		out.Results[i] = one
	}
	return out, nil
}

// outcomes are the API's words for what became of a transaction.
var outcomes = map[state.Outcome]pb.TransactResponse_Outcome{
	state.Applied:   pb.TransactResponse_OUTCOME_APPLIED,
	state.Repeated:  pb.TransactResponse_OUTCOME_REPEATED,
	state.Empty:     pb.TransactResponse_OUTCOME_EMPTY,
	state.Suspended: pb.TransactResponse_OUTCOME_SUSPENDED,
}

func (s *stateServer) Transact(ctx context.Context, in *pb.TransactRequest) (*pb.TransactResponse, error) {
	c, who, err := open(ctx, s.states, in.GetComponent())
	if err != nil {
		return nil, err
	}
	t := state.Transaction{Fence: fence(in.GetFence()), IdempotencyKey: in.GetIdempotencyKey()}
	if b := in.GetBarrier(); b != nil {
		if t.Barrier = (state.Barrier{GID: b.GetGid(), Branch: b.GetBranch(), Op: b.GetOp()}); t.Barrier == (state.Barrier{}) {
			return nil, c.Named(fmt.Errorf("%w: the barrier is set and empty", components.ErrInvalid))
		}
	}
	t.Operations = make([]state.Operation, len(in.GetOperations()))
	for i, op := range in.GetOperations() {
		if t.Operations[i], err = s.stateOperation(op); err != nil {
			return nil, c.Named((&state.OperationError{Index: i, Err: err}).Named())
		}
	}
	r, err := c.Transact(ctx, who, t)
	if err != nil {
		return nil, err
	}
	return &pb.TransactResponse{Outcome: outcomes[r.Outcome], Versions: r.Versions}, nil
}

func (s *stateServer) List(ctx context.Context, in *pb.ListRequest) (*pb.ListResponse, error) {
	c, who, err := open(ctx, s.states, in.GetComponent())
	if err != nil {
		return nil, err
	}
	entries, next, err := c.List(ctx, who, in.GetPrefix(), int(in.GetPageSize()), in.GetPageToken(), in.GetValues())
	if err != nil {
		return nil, err
	}
	out := &pb.ListResponse{Entries: make([]*pb.ListResponse_Entry, len(entries)), NextPageToken: next}
	for i, e := range entries {
		out.Entries[i] = &pb.ListResponse_Entry{Key: e.Key, Item: stateItem(e.Item)}
	}
	return out, nil
}

func stateItem(item state.Item) *pb.GetResponse {
	out := &pb.GetResponse{Value: item.Value, ContentType: item.ContentType, Version: item.Version, Metadata: item.Metadata}
	if item.TTL != 0 {
		out.Ttl = durationpb.New(item.TTL)
	}
	return out
}

// setting is what a set of one key and one among others have in common.
type setting interface {
	GetKey() string
	GetValue() []byte
	GetContentType() string
	GetTtl() *durationpb.Duration
	GetCondition() *pb.Condition
	GetMetadata() map[string]string
}

func (s *stateServer) setOperation(in setting) (op state.Operation, err error) {
	op = state.Operation{Kind: state.Set, Key: in.GetKey(),
		Item: state.Item{Value: in.GetValue(), ContentType: in.GetContentType(), Metadata: in.GetMetadata()}}
	if err := s.readable(op); err != nil {
		return op, err
	}
	if op.Item.TTL, err = timeToLive(in.GetTtl()); err != nil {
		return op, err
	}
	op.Condition, err = condition(in.GetCondition())
	return op, err
}

// besides is what an answer has besides a key and what was set with it: version, time to live, lengths.
const besides = 128

// readable refuses an item that would not fit in an answer, in a page of its own if need be: nobody could read it.
func (s *stateServer) readable(op state.Operation) error {
	if s.largest == 0 || len(op.Item.Value) < s.largest/2 && len(op.Item.Metadata) == 0 {
		return nil
	}
	if proto.Size(stateItem(op.Item))+len(op.Key)+besides > s.largest {
		return api.TooLarge("api", "answer with this item", s.largest)
	}
	return nil
}

func (s *stateServer) stateOperation(in *pb.Operation) (op state.Operation, err error) {
	switch kind := in.GetOperation().(type) {
	case *pb.Operation_Set_:
		return s.setOperation(kind.Set)
	case *pb.Operation_Delete_:
		return state.Operation{Kind: state.Delete, Key: kind.Delete.GetKey(), Condition: state.Condition{IfVersion: kind.Delete.GetIfVersion()}}, nil
	case *pb.Operation_Check_:
		op = state.Operation{Kind: state.Check, Key: kind.Check.GetKey()}
		op.Condition, err = condition(kind.Check.GetCondition())
	}
	return op, err // the front refuses one without kind
}

func condition(in *pb.Condition) (c state.Condition, err error) {
	switch when := in.GetWhen().(type) {
	case *pb.Condition_IfVersion:
		if when.IfVersion == "" { // a caller that has lost its version must not overwrite whatever is there
			return c, fmt.Errorf("%w: if_version is set and empty", components.ErrInvalid)
		}
		c.IfVersion = when.IfVersion
	case *pb.Condition_IfAbsent:
		c.IfAbsent = when.IfAbsent
	}
	return c, nil
}

// fence is none if it is unset. One that is set and empty has a component, and is refused by the front for having nothing else.
func fence(in *pb.Fence) state.Fence {
	if in == nil {
		return state.Fence{}
	}
	f := state.Fence{Component: in.GetComponent(), Name: in.GetName(), Token: in.GetToken()}
	if f.Component == "" {
		f.Component = "default"
	}
	return f
}
