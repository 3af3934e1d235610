package native

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components/secret"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/secret/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"
)

type secretServer struct {
	pb.UnimplementedSecretServer
	secrets api.Components[*secret.Secret]
}

func (s *secretServer) Get(ctx context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	c, who, err := open(ctx, s.secrets, in.GetComponent())
	if err != nil {
		return nil, err
	}
	value, err := c.Get(ctx, who, in.GetKey())
	if err != nil {
		return nil, err
	}
	return secretValue(value), nil
}

func (s *secretServer) GetMany(ctx context.Context, in *pb.GetManyRequest) (*pb.GetManyResponse, error) {
	c, who, err := open(ctx, s.secrets, in.GetComponent())
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
			one.Secret = secretValue(r.Value)
		}
		out.Results[i] = one
	}
	return out, nil
}

func (s *secretServer) List(ctx context.Context, in *pb.ListRequest) (*pb.ListResponse, error) {
	c, who, err := open(ctx, s.secrets, in.GetComponent())
	if err != nil {
		return nil, err
	}
	keys, next, err := c.List(ctx, who, in.GetPrefix(), int(in.GetPageSize()), in.GetPageToken())
	return &pb.ListResponse{Keys: keys, NextPageToken: next}, err
}

func secretValue(v secret.Value) *pb.GetResponse {
	return &pb.GetResponse{Value: v.Data, Version: v.Version}
}
