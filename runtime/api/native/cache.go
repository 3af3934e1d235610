package native

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Inline tells of a method whether it may begin on a connection's reader: those that ask cacheServer.open, and State's Get and Set.
func Inline(method string) bool { return inline[method] }

var inline = map[string]bool{
	pb.Cache_Get_FullMethodName: true, pb.Cache_Set_FullMethodName: true, pb.Cache_Delete_FullMethodName: true,
	pb.Cache_Exists_FullMethodName: true, pb.Cache_Touch_FullMethodName: true, pb.Cache_Increment_FullMethodName: true,
	statev1.State_Get_FullMethodName: true, statev1.State_Set_FullMethodName: true,
}

type cacheServer struct {
	pb.UnimplementedCacheServer
	caches api.Components[*cache.Cache]
}

// open is open, but where the call may not wait a component that could is left for later.
func (s *cacheServer) open(ctx context.Context, name string) (*cache.Cache, components.Caller, error) {
	c, who, err := open(ctx, s.caches, name)
	if err == nil && !fastgrpc.MayWait(ctx) && !c.Instant() {
		err = fastgrpc.ErrWouldBlock
	}
	return c, who, err
}

func (s *cacheServer) Get(ctx context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	c, who, err := s.open(ctx, in.GetComponent())
	if err == fastgrpc.ErrWouldBlock {
		if begin := c.Later(ctx, who, in.GetKey()); begin != nil {
			return nil, &fastgrpc.Later{Begin: func(done func(proto.Message, error)) {
				begin(func(item cache.Item, err error) { done(cacheItem(item), err) })
			}}
		}
	}
	if err != nil {
		return nil, err
	}
	item, err := c.Get(ctx, who, in.GetKey())
	if err != nil {
		return nil, err
	}
	return cacheItem(item), nil
}

func (s *cacheServer) Set(ctx context.Context, in *pb.SetRequest) (*pb.SetResponse, error) {
	c, who, err := s.open(ctx, in.GetComponent())
	if err != nil {
		return nil, err
	}
	e, err := cacheEntry(in)
	if err != nil {
		return nil, c.Named(err)
	}
	version, err := c.Set(ctx, who, e.Key, e.Item, e.Condition)
	if err != nil {
		return nil, err
	}
	return &pb.SetResponse{Version: version}, nil
}

func (s *cacheServer) Delete(ctx context.Context, in *pb.DeleteRequest) (*pb.DeleteResponse, error) {
	c, who, err := s.open(ctx, in.GetComponent())
	if err != nil {
		return nil, err
	}
	return &pb.DeleteResponse{}, c.Delete(ctx, who, in.GetKey(), in.GetIfVersion())
}

func (s *cacheServer) Exists(ctx context.Context, in *pb.ExistsRequest) (*pb.ExistsResponse, error) {
	c, who, err := s.open(ctx, in.GetComponent())
	if err != nil {
		return nil, err
	}
	there, err := c.Exists(ctx, who, in.GetKey())
	return &pb.ExistsResponse{Exists: there}, err
}

func (s *cacheServer) Touch(ctx context.Context, in *pb.TouchRequest) (*pb.TouchResponse, error) {
	c, who, err := s.open(ctx, in.GetComponent())
	if err != nil {
		return nil, err
	}
	ttl, err := timeToLive(in.GetTtl())
	if err != nil {
		return nil, c.Named(err)
	}
	return &pb.TouchResponse{}, c.Touch(ctx, who, in.GetKey(), ttl)
}

func (s *cacheServer) Increment(ctx context.Context, in *pb.IncrementRequest) (*pb.IncrementResponse, error) {
	c, who, err := s.open(ctx, in.GetComponent())
	if err != nil {
		return nil, err
	}
	ttl, err := timeToLive(in.GetTtl())
	if err != nil {
		return nil, c.Named(err)
	}
	sum, err := c.Increment(ctx, who, in.GetKey(), in.GetDelta(), ttl)
	return &pb.IncrementResponse{Value: sum}, err
}

func (s *cacheServer) GetMany(ctx context.Context, in *pb.GetManyRequest) (*pb.GetManyResponse, error) {
	c, who, err := s.open(ctx, in.GetComponent())
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
			one.Item = cacheItem(r.Item)
		}
		out.Results[i] = one
	}
	return out, nil
}

func (s *cacheServer) SetMany(ctx context.Context, in *pb.SetManyRequest) (*pb.SetManyResponse, error) {
	c, who, err := s.open(ctx, in.GetComponent())
	if err != nil {
		return nil, err
	}
	out := &pb.SetManyResponse{Results: make([]*pb.SetManyResponse_Result, len(in.GetItems()))}
	var entries []cache.Entry
	var places []int // of entries, in the answer
	for i, item := range in.GetItems() {
		out.Results[i] = &pb.SetManyResponse_Result{Key: item.GetKey()}
		e, err := cacheEntry(item)
		if err != nil {
			out.Results[i].Error = api.Failure(err)
			continue
		}
		entries, places = append(entries, e), append(places, i)
	}
	results, err := c.SetMany(ctx, who, entries)
	if err != nil {
		return nil, err
	}
	for j, i := range places {
		out.Results[i].Version, out.Results[i].Error = results[j].Version, api.Failure(results[j].Err)
	}
	return out, nil
}

func cacheItem(item cache.Item) *pb.GetResponse {
	out := &pb.GetResponse{Value: item.Value, ContentType: item.ContentType, Version: item.Version, Metadata: item.Metadata}
	if item.TTL != 0 {
		out.Ttl = durationpb.New(item.TTL)
	}
	return out
}

func cacheEntry(in *pb.SetRequest) (e cache.Entry, err error) {
	e.Key = in.GetKey()
	e.Item = cache.Item{Value: in.GetValue(), ContentType: in.GetContentType(), Metadata: in.GetMetadata()}
	if e.Item.TTL, err = timeToLive(in.GetTtl()); err != nil {
		return e, err
	}
	switch when := in.GetCondition().GetWhen().(type) {
	case *pb.Condition_IfVersion:
		if when.IfVersion == "" { // a caller that has lost its version must not overwrite whatever is there
			return e, fmt.Errorf("%w: if_version is set and empty", components.ErrInvalid)
		}
		e.IfVersion = when.IfVersion
	case *pb.Condition_IfAbsent:
		e.IfAbsent = when.IfAbsent
	}
	return e, nil
}
