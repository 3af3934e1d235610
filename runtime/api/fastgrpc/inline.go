package fastgrpc

import (
	"context"
	"errors"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// ErrWouldBlock is what the handler of an Inline method returns, unchanged and before it has done anything, when it has to
// wait and MayWait says that it must not: then it is called again where it may.
var ErrWouldBlock = errors.New("fastgrpc: the handler would block")

// MayWait tells whether a handler may wait: everywhere but on a connection's reader.
func MayWait(ctx context.Context) bool {
	k := grpcproxy.FromContext(ctx)
	return k == nil || k.MayWait()
}
