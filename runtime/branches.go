package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// branches calls those of the application's transactions: services through the mesh, as the application would, and topics.
type branches struct {
	fronts  *fronts
	begun   chan struct{} // closed when there is an invoker
	invoker *proxy.Invoker
	ctx     context.Context
	end     context.CancelFunc
	driving sync.WaitGroup
}

func newBranches(f *fronts) *branches {
	b := &branches{fronts: f, begun: make(chan struct{})}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b
}

func (b *branches) options(app components.Caller, log *slog.Logger) transaction.Options {
	return transaction.Options{Logger: log, Application: app, Call: b.call, Run: b.run}
}

// run runs what drives transactions, once they can be called.
func (b *branches) run(drive func(context.Context)) {
	if b.ctx.Err() != nil {
		return
	}
	b.driving.Go(func() {
		select {
		case <-b.begun:
			drive(b.ctx)
		case <-b.ctx.Done():
		}
	})
}

func (b *branches) begin(i *proxy.Invoker) {
	b.invoker = i
	close(b.begun)
}

// stop ends the calls under way; what became of them whoever drives next finds out.
func (b *branches) stop() {
	b.end()
	b.driving.Wait()
}

// Metadata that each call of a branch has.
const (
	headerGID    = "tx-gid"
	headerBranch = "tx-branch"
	headerOp     = "tx-op"
	headerKind   = "tx-kind"
)

func (b *branches) call(ctx context.Context, who components.Caller, c *transaction.Call) (transaction.Answer, error) {
	t := &c.Target
	md := maps.Clone(t.Metadata)
	if md == nil {
		md = map[string]string{}
	}
	md[headerGID], md[headerBranch], md[headerOp], md[headerKind] = c.GID, c.Branch, c.Op, string(c.Kind)
	if t.Topic != "" {
		return transaction.Answer{}, b.publish(ctx, who, c, md)
	}
	if len(c.Trace) > 0 {
		ctx = metadata.NewIncomingContext(ctx, metadata.New(c.Trace)) // where the invoker looks for the trace
	}
	out, _, err := b.invoker.Call(ctx, who, &invocationv1.InvokeRequest{Service: t.Service, Method: t.Method, Verb: t.Verb, Data: t.Data,
		ContentType: t.ContentType, Metadata: md})
	if code := out.GetHttpStatus(); err == nil && code >= http.StatusMultipleChoices { // a login page, say: nothing was done
		return transaction.Answer{}, fmt.Errorf("%w: the application answered %d, which is no 2xx", components.ErrUnavailable, code)
	}
	return transaction.Answer{Data: out.GetData(), ContentType: out.GetContentType()}, outcome(err)
}

func (b *branches) publish(ctx context.Context, who components.Caller, c *transaction.Call, md map[string]string) error {
	front, err := b.fronts.pubsubs.Get(c.Target.Component)
	if err != nil {
		return err
	}
	key := ""
	if front.Offers(ctx, pubsub.Idempotency) {
		key = c.GID + "/" + c.Branch
	}
	_, err = front.Publish(ctx, who, pubsub.NewEvent{Topic: c.Target.Topic, IdempotencyKey: key,
		Event: pubsub.Event{Data: c.Target.Data, ContentType: c.Target.ContentType, Metadata: md}})
	return err
}

// outcome tells what a service says of a branch: only ABORTED with the reason TX_BRANCH_FAILED is that it cannot be done.
func outcome(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	if st.Code() == codes.Aborted {
		for _, d := range st.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == string(transaction.ReasonBranchFailed) {
				return transaction.Failed(errors.New(st.Message()))
			}
		}
	}
	return fmt.Errorf("%w: %s: %s", components.ErrUnavailable, st.Code(), st.Message())
}
