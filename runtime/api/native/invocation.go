package native

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

// Invoker calls methods of other applications. Errors of the called application are gRPC statuses and pass unchanged.
type Invoker interface {
	Invoke(ctx context.Context, caller components.Caller, in *pb.InvokeRequest) (*pb.InvokeResponse, error)
}

type invocationServer struct {
	pb.UnimplementedInvocationServer
	invoker Invoker
}

func (s *invocationServer) Invoke(ctx context.Context, in *pb.InvokeRequest) (*pb.InvokeResponse, error) {
	who, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	return s.invoker.Invoke(ctx, who, in)
}
