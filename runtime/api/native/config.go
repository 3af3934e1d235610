package native

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components/config"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/grpc"
)

type configServer struct {
	pb.UnimplementedConfigServer
	configs api.Components[*config.Config]
}

func (s *configServer) Get(ctx context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	c, who, err := open(ctx, s.configs, in.GetComponent())
	if err != nil {
		return nil, err
	}
	item, err := c.Get(ctx, who, in.GetKey())
	if err != nil {
		return nil, err
	}
	return &pb.GetResponse{Item: configItem(item)}, nil
}

func (s *configServer) Set(ctx context.Context, in *pb.SetRequest) (*pb.SetResponse, error) {
	c, who, err := open(ctx, s.configs, in.GetComponent())
	if err != nil {
		return nil, err
	}
	item := config.Item{Key: in.GetKey(), Value: in.GetValue(), ContentType: in.GetContentType(), Metadata: in.GetMetadata()}
	version, err := c.Set(ctx, who, item, in.GetIfVersion())
	return &pb.SetResponse{Version: version}, err
}

func (s *configServer) Delete(ctx context.Context, in *pb.DeleteRequest) (*pb.DeleteResponse, error) {
	c, who, err := open(ctx, s.configs, in.GetComponent())
	if err != nil {
		return nil, err
	}
	return &pb.DeleteResponse{}, c.Delete(ctx, who, in.GetKey())
}

func (s *configServer) List(ctx context.Context, in *pb.ListRequest) (*pb.ListResponse, error) {
	c, who, err := open(ctx, s.configs, in.GetComponent())
	if err != nil {
		return nil, err
	}
	items, next, err := c.List(ctx, who, in.GetPrefix(), int(in.GetPageSize()), in.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &pb.ListResponse{Items: make([]*pb.Item, len(items)), NextPageToken: next}
	for i, item := range items {
		out.Items[i] = configItem(item)
	}
	return out, nil
}

func (s *configServer) Watch(in *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	c, who, err := open(stream.Context(), s.configs, in.GetComponent())
	if err != nil {
		return err
	}
	sel := config.Selection{Keys: in.GetKeys(), Prefixes: in.GetPrefixes()}
	return c.Watch(stream.Context(), who, sel, func(m config.Message) error {
		out := &pb.WatchResponse{Initial: m.Initial, More: m.More, Changes: make([]*pb.WatchResponse_Change, len(m.Changes))}
		for i, ch := range m.Changes {
			out.Changes[i] = &pb.WatchResponse_Change{Key: ch.Key}
			if !ch.Deleted {
				out.Changes[i].Item = configItem(ch.Item)
			}
		}
		return stream.Send(out)
	})
}

func configItem(i config.Item) *pb.Item {
	return &pb.Item{Key: i.Key, Value: i.Value, ContentType: i.ContentType, Version: i.Version, Metadata: i.Metadata, Stale: i.Stale}
}
