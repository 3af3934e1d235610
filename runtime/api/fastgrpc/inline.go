package fastgrpc

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

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

// Later is what the handler of an Inline method may return in place of ErrWouldBlock where what it waits for tells by itself when
// it is there. Begin is called once, has done called once, by any goroutine, perhaps at once, and waits for nothing.
type Later struct {
	Begin func(done func(answer proto.Message, err error))
}

func (*Later) Error() string { return "fastgrpc: the handler answers later" }

// later has the call that ctx is end as l says.
func (l *Later) later(ctx context.Context) *grpcproxy.Status {
	end := grpcproxy.FromContext(ctx).Later()
	l.Begin(func(answer proto.Message, err error) {
		end(func(resp []byte) ([]byte, *grpcproxy.Status) { return encode(resp, answer, err) })
	})
	return grpcproxy.AnswerLater
}
