package client_test

import (
	"context"
	"strconv"

	"google.golang.org/grpc/codes"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
)

type cache struct {
	cachev1.UnimplementedCacheServer
	w *world
}

func absent(key string) error {
	return problem(codes.NotFound, "KEY_NOT_FOUND", "get "+key+": not found")
}

func (c cache) Get(_ context.Context, in *cachev1.GetRequest) (*cachev1.GetResponse, error) {
	if in.GetComponent() == "missing" {
		return nil, problem(codes.NotFound, "COMPONENT_NOT_FOUND", "no such cache")
	}
	if in.GetKey() == "hang" {
		<-c.w.hang
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if in.GetKey() == "fail" {
		return nil, c.w.fail
	}
	if item := c.w.cache[in.GetKey()]; item != nil {
		return item, nil
	}
	return nil, absent(in.GetKey())
}

func (c cache) Set(_ context.Context, in *cachev1.SetRequest) (*cachev1.SetResponse, error) {
	if in.GetTtl() != nil && in.GetTtl().AsDuration() <= 0 {
		return nil, problem(codes.InvalidArgument, "TTL_INVALID", "the time to live is not positive")
	}
	var out *cachev1.SetResponse
	var err error
	c.w.edit(func(version string) {
		there := c.w.cache[in.GetKey()]
		switch when := in.GetCondition().GetWhen().(type) {
		case *cachev1.Condition_IfAbsent:
			if there != nil {
				err = problem(codes.AlreadyExists, "KEY_EXISTS", "it is there")
				return
			}
		case *cachev1.Condition_IfVersion:
			if there.GetVersion() != when.IfVersion {
				err = problem(codes.Aborted, "VERSION_MISMATCH", "another version is there")
				return
			}
		}
		c.w.cache[in.GetKey()] = &cachev1.GetResponse{Value: in.GetValue(), ContentType: in.GetContentType(), Version: version,
			Ttl: in.GetTtl(), Metadata: in.GetMetadata()}
		out = &cachev1.SetResponse{Version: version}
	})
	return out, err
}

func (c cache) Delete(_ context.Context, in *cachev1.DeleteRequest) (*cachev1.DeleteResponse, error) {
	var err error
	c.w.edit(func(string) {
		if in.GetIfVersion() != "" && c.w.cache[in.GetKey()].GetVersion() != in.GetIfVersion() {
			err = problem(codes.Aborted, "VERSION_MISMATCH", "another version is there")
			return
		}
		delete(c.w.cache, in.GetKey())
	})
	return &cachev1.DeleteResponse{}, err
}

func (c cache) Exists(_ context.Context, in *cachev1.ExistsRequest) (*cachev1.ExistsResponse, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return &cachev1.ExistsResponse{Exists: c.w.cache[in.GetKey()] != nil}, nil
}

func (c cache) Touch(_ context.Context, in *cachev1.TouchRequest) (*cachev1.TouchResponse, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	item := c.w.cache[in.GetKey()]
	if item == nil {
		return nil, absent(in.GetKey())
	}
	item.Ttl = in.GetTtl()
	return &cachev1.TouchResponse{}, nil
}

func (c cache) Increment(_ context.Context, in *cachev1.IncrementRequest) (*cachev1.IncrementResponse, error) {
	out := &cachev1.IncrementResponse{}
	c.w.edit(func(version string) {
		item := c.w.cache[in.GetKey()]
		if item == nil {
			item = &cachev1.GetResponse{Value: []byte("0"), Ttl: in.GetTtl()}
		}
		n, _ := strconv.ParseInt(string(item.GetValue()), 10, 64)
		out.Value = n + in.GetDelta()
		c.w.cache[in.GetKey()] = &cachev1.GetResponse{Value: strconv.AppendInt(nil, out.GetValue(), 10), Version: version, Ttl: item.GetTtl()}
	})
	return out, nil
}

func (c cache) GetMany(ctx context.Context, in *cachev1.GetManyRequest) (*cachev1.GetManyResponse, error) {
	out := &cachev1.GetManyResponse{}
	for _, key := range in.GetKeys() {
		one := &cachev1.GetManyResponse_Result{Key: key}
		item, err := c.Get(ctx, &cachev1.GetRequest{Key: key})
		if one.Item = item; err != nil {
			one.Error = &commonv1.Failure{Code: int32(codes.NotFound), Reason: "KEY_NOT_FOUND", Message: "not found"}
		}
		out.Results = append(out.Results, one)
	}
	return out, nil
}

func (c cache) SetMany(ctx context.Context, in *cachev1.SetManyRequest) (*cachev1.SetManyResponse, error) {
	out := &cachev1.SetManyResponse{}
	for _, item := range in.GetItems() {
		one := &cachev1.SetManyResponse_Result{Key: item.GetKey()}
		set, err := c.Set(ctx, item)
		if one.Version = set.GetVersion(); err != nil {
			one.Error = &commonv1.Failure{Code: int32(codes.AlreadyExists), Reason: "KEY_EXISTS", Message: "it is there"}
		}
		out.Results = append(out.Results, one)
	}
	return out, nil
}
