package native

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/sequence/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"
)

type sequenceServer struct {
	pb.UnimplementedSequenceServer
	sequences api.Components[*sequence.Sequence]
}

func (s *sequenceServer) Next(ctx context.Context, in *pb.NextRequest) (*pb.NextResponse, error) {
	c, who, err := open(ctx, s.sequences, in.GetComponent())
	if err != nil {
		return nil, err
	}
	draw := c.Next
	switch in.GetOrder() {
	case pb.NextRequest_ORDER_UNSPECIFIED, pb.NextRequest_ORDER_INCREASING:
	case pb.NextRequest_ORDER_UNIQUE:
		draw = c.Unique
	default:
		return nil, c.Named(fmt.Errorf("%w: there is no order %d", components.ErrInvalid, in.GetOrder()))
	}
	first, last, err := draw(ctx, who, in.GetKey(), int64(in.GetSize()))
	if err != nil {
		return nil, err
	}
	return &pb.NextResponse{First: first, Last: last}, nil
}
