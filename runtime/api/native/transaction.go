package native

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
)

type transactionServer struct {
	pb.UnimplementedTransactionServer
	transactions api.Components[*transaction.Transactions]
	draining     context.Context
}

func (s *transactionServer) RunSaga(ctx context.Context, in *pb.RunSagaRequest) (*pb.RunSagaResponse, error) {
	c, who, err := open(ctx, s.transactions, in.GetComponent())
	if err != nil {
		return nil, err
	}
	saga := transaction.Content{Kind: transaction.Saga, Trace: traceOf(ctx), Branches: make([]transaction.Branch, len(in.GetSteps()))}
	if saga.Policy, err = txPolicy(in.GetPolicy()); err != nil {
		return nil, c.Named(err)
	}
	for i, step := range in.GetSteps() {
		b := transaction.Branch{ID: step.GetId(), Do: target(step.GetAction()), Undo: target(step.GetCompensation()), After: step.GetAfter()}
		if b.ID == "" {
			b.ID = strconv.Itoa(i + 1)
		}
		if !in.GetConcurrent() {
			if len(b.After) > 0 {
				return nil, c.Named(transaction.Invalid("step %q: after is for concurrent sagas; the steps of others come one after the other", b.ID))
			}
			if i > 0 {
				b.After = []string{saga.Branches[i-1].ID}
			}
		}
		saga.Branches[i] = b
	}
	info, err := c.Begin(ctx, who, in.GetGid(), saga, in.GetWait())
	if err != nil {
		return nil, err
	}
	return &pb.RunSagaResponse{Status: txStatus(info)}, nil
}

func (s *transactionServer) Begin(ctx context.Context, in *pb.BeginRequest) (*pb.BeginResponse, error) {
	c, who, err := open(ctx, s.transactions, in.GetComponent())
	if err != nil {
		return nil, err
	}
	policy, err := txPolicy(in.GetPolicy())
	if err != nil {
		return nil, c.Named(err)
	}
	info, err := c.Begin(ctx, who, in.GetGid(), transaction.Content{Kind: transaction.TCC, Policy: policy, Trace: traceOf(ctx)}, false)
	return &pb.BeginResponse{Gid: info.GID}, err
}

func (s *transactionServer) RegisterBranch(ctx context.Context, in *pb.RegisterBranchRequest) (*pb.RegisterBranchResponse, error) {
	c, who, err := open(ctx, s.transactions, in.GetComponent())
	if err != nil {
		return nil, err
	}
	a, err := c.Register(ctx, who, in.GetGid(), transaction.Branch{ID: in.GetBranch(), Do: target(in.GetTry()), Confirm: target(in.GetConfirm()), Undo: target(in.GetCancel())})
	return &pb.RegisterBranchResponse{Data: a.Data, ContentType: a.ContentType}, err
}

func (s *transactionServer) Commit(ctx context.Context, in *pb.CommitRequest) (*pb.CommitResponse, error) {
	st, err := s.decide(ctx, in, transaction.Commit, in.GetWait())
	return &pb.CommitResponse{Status: st}, err
}

func (s *transactionServer) Abort(ctx context.Context, in *pb.AbortRequest) (*pb.AbortResponse, error) {
	st, err := s.decide(ctx, in, transaction.Abort, in.GetWait())
	return &pb.AbortResponse{Status: st}, err
}

func (s *transactionServer) SubmitMessage(ctx context.Context, in *pb.SubmitMessageRequest) (*pb.SubmitMessageResponse, error) {
	st, err := s.decide(ctx, in, transaction.Commit, in.GetWait())
	return &pb.SubmitMessageResponse{Status: st}, err
}

var forced = map[pb.ForceRequest_Decision]transaction.Decision{pb.ForceRequest_DECISION_RETRY: transaction.Retry,
	pb.ForceRequest_DECISION_ABORT: transaction.Abort, pb.ForceRequest_DECISION_GIVE_UP: transaction.GiveUp}

func (s *transactionServer) Force(ctx context.Context, in *pb.ForceRequest) (*pb.ForceResponse, error) {
	what, known := forced[in.GetDecision()]
	if !known {
		return nil, fmt.Errorf("%w: the decision %d is not known", components.ErrInvalid, in.GetDecision())
	}
	st, err := s.decide(ctx, in, what, false)
	return &pb.ForceResponse{Status: st}, err
}

func (s *transactionServer) decide(ctx context.Context, in interface {
	GetComponent() string
	GetGid() string
}, what transaction.Decision, wait bool) (*pb.Status, error) {
	c, who, err := open(ctx, s.transactions, in.GetComponent())
	if err != nil {
		return nil, err
	}
	info, err := c.Decide(ctx, who, in.GetGid(), what, wait)
	if err != nil {
		return nil, err
	}
	return txStatus(info), nil
}

func (s *transactionServer) PrepareMessage(ctx context.Context, in *pb.PrepareMessageRequest) (*pb.PrepareMessageResponse, error) {
	c, who, err := open(ctx, s.transactions, in.GetComponent())
	if err != nil {
		return nil, err
	}
	m := transaction.Content{Kind: transaction.Message, Trace: traceOf(ctx), Check: target(in.GetCheck()), Branches: make([]transaction.Branch, len(in.GetDeliveries()))}
	if m.Policy, err = txPolicy(in.GetPolicy()); err != nil {
		return nil, c.Named(err)
	}
	for i, d := range in.GetDeliveries() {
		m.Branches[i] = transaction.Branch{ID: d.GetId(), Do: target(d.GetCall())}
	}
	info, err := c.Begin(ctx, who, in.GetGid(), m, false)
	return &pb.PrepareMessageResponse{Gid: info.GID}, err
}

func (s *transactionServer) Get(ctx context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	c, who, err := open(ctx, s.transactions, in.GetComponent())
	if err != nil {
		return nil, err
	}
	info, err := c.Get(ctx, who, in.GetGid())
	if err != nil {
		return nil, err
	}
	return &pb.GetResponse{Status: txStatus(info)}, nil
}

func (s *transactionServer) List(ctx context.Context, in *pb.ListRequest) (*pb.ListResponse, error) {
	c, who, err := open(ctx, s.transactions, in.GetComponent())
	if err != nil {
		return nil, err
	}
	q := transaction.Query{}
	if q.OlderThan, err = span("older_than", in.GetOlderThan()); err != nil {
		return nil, c.Named(err)
	}
	for _, one := range in.GetStates() {
		found := false
		for is, as := range txStates {
			if as == one {
				q.States, found = append(q.States, is), true
			}
		}
		if !found {
			return nil, c.Named(fmt.Errorf("%w: the state %d is not known", components.ErrInvalid, one))
		}
	}
	all, next, err := c.List(ctx, who, q, int(in.GetPageSize()), in.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &pb.ListResponse{NextPageToken: next, Transactions: make([]*pb.Status, len(all))}
	for i := range all {
		out.Transactions[i] = txStatus(all[i])
	}
	return out, nil
}

// traceOf is the trace that a call belongs to, which those of branches continue.
func traceOf(ctx context.Context) map[string]string {
	came, _ := metadata.FromIncomingContext(ctx)
	out := map[string]string{}
	for _, name := range [...]string{"traceparent", "tracestate", "baggage"} {
		if v := came.Get(name); len(v) > 0 {
			out[name] = v[0]
		}
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() && !span.IsRemote() { // the call of the API's own
		out["traceparent"] = fmt.Sprintf("00-%s-%s-%s", span.TraceID(), span.SpanID(), span.TraceFlags())
	}
	return out
}

func target(in *pb.Call) transaction.Target {
	return transaction.Target{Service: in.GetService(), Topic: in.GetTopic(), Stream: in.GetStream(), Component: in.GetComponent(), Method: in.GetMethod(),
		Verb: in.GetVerb(), Data: in.GetData(), ContentType: in.GetContentType(), Metadata: in.GetMetadata()}
}

func txPolicy(in *pb.Policy) (p transaction.Policy, err error) {
	for _, f := range []struct {
		name string
		in   *durationpb.Duration
		to   *time.Duration
	}{{"timeout", in.GetTimeout(), &p.Timeout}, {"call_timeout", in.GetCallTimeout(), &p.CallTimeout}, {"first_pause", in.GetFirstPause(), &p.FirstPause},
		{"longest_pause", in.GetLongestPause(), &p.LongPause}} {
		if *f.to, err = span(f.name, f.in); err == nil && f.in != nil && *f.to <= 0 {
			err = fmt.Errorf("%w: a %s of %s is not above 0; leave it unset for the component's", components.ErrInvalid, f.name, *f.to)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

var txStates = map[transaction.State]pb.State{transaction.Prepared: pb.State_STATE_PREPARED, transaction.Running: pb.State_STATE_RUNNING,
	transaction.Committing: pb.State_STATE_COMMITTING, transaction.Aborting: pb.State_STATE_ABORTING, transaction.Committed: pb.State_STATE_COMMITTED,
	transaction.Aborted: pb.State_STATE_ABORTED, transaction.GivenUp: pb.State_STATE_GIVEN_UP}

func txStatus(i transaction.Info) *pb.Status {
	out := &pb.Status{Gid: i.GID, Kind: string(i.Kind), State: txStates[i.State], Reason: i.Reason, FailedBranch: i.Failed, Began: timestamp(i.Began), Ended: timestamp(i.Ended)}
	for _, b := range i.Branches {
		one := &pb.Status_Branch{Id: b.ID, Op: b.Op, Done: b.Done, Attempts: int32(b.Attempts), Last: b.Last}
		if b.Pause > 0 {
			one.Pause = durationpb.New(b.Pause)
		}
		out.Branches = append(out.Branches, one)
	}
	return out
}

func (s *transactionServer) Serve(stream pb.Transaction_ServeServer) error {
	return deliver(stream, s.draining, s.start)
}

func (s *transactionServer) start(ctx context.Context, start *pb.ServeRequest_Start) (*deliveries[pb.ServeResponse, transaction.Served], error) {
	c, who, err := open(ctx, s.transactions, start.GetComponent())
	if err != nil {
		return nil, err
	}
	deadline, err := ackDeadline(start.GetAckDeadline())
	if err != nil {
		return nil, c.Named(err)
	}
	w, err := c.Serve(ctx, who, start.GetMethods(), deadline)
	if err != nil {
		return nil, err
	}
	return &deliveries[pb.ServeResponse, transaction.Served]{share: quiet[transaction.Served]{w}, delivery: branch,
		id:       func(d *transaction.Served) string { return d.DeliveryID },
		started:  &pb.ServeResponse{Message: &pb.ServeResponse_Started_{Started: &pb.ServeResponse_Started{}}},
		draining: &pb.ServeResponse{Message: &pb.ServeResponse_Draining{Draining: &commonv1.Draining{}}},
	}, nil
}

func branch(d *transaction.Served) *pb.ServeResponse {
	t := &d.Target
	return &pb.ServeResponse{Message: &pb.ServeResponse_Delivery_{Delivery: &pb.ServeResponse_Delivery{DeliveryId: d.DeliveryID, Attempt: int32(d.Attempt),
		Gid: d.GID, Branch: d.Branch, Op: d.Op, Kind: string(d.Kind), Method: t.Method, Data: t.Data, ContentType: t.ContentType, Metadata: t.Metadata}}}
}
