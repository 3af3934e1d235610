package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	transactionv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
)

// Transactions is a component that brings what is done in several services to all or nothing.
type Transactions struct {
	client    *Client
	component string
	api       transactionv1.TransactionClient
}

// Transactions is the component of that name; empty means "default". Whether there is one shows at the first call (ErrNoComponent).
func (c *Client) Transactions(name string) *Transactions {
	return &Transactions{c, name, transactionv1.NewTransactionClient(c.API())}
}

// Call is what a branch calls: To, ToTopic or ToStream.
type Call struct{ proto *transactionv1.Call }

// To calls a method of a service, as Invoke does.
func To(service, method string, data []byte) Call {
	return Call{&transactionv1.Call{To: &transactionv1.Call_Service{Service: service}, Method: method, Data: data}}
}

// ToTopic publishes an event; only messages do.
func ToTopic(topic string, data []byte) Call {
	return Call{&transactionv1.Call{To: &transactionv1.Call_Topic{Topic: topic}, Data: data}}
}

// ToStream calls the application itself, by way of Serve.
func ToStream(method string, data []byte) Call {
	return Call{&transactionv1.Call{To: &transactionv1.Call_Stream{Stream: true}, Method: method, Data: data}}
}

// As says what the data is.
func (c Call) As(contentType string) Call {
	out := proto.CloneOf(c.proto) // the same call may be used without
	out.ContentType = contentType
	return Call{out}
}

// TxPolicy says how long, and how often; what is zero is the component's.
type TxPolicy struct {
	Timeout      time.Duration // for a saga's actions and an open TCC, then they are rolled back; of a message until the sender is asked
	CallTimeout  time.Duration // of one call
	FirstPause   time.Duration // after the first attempt whose outcome is unknown; it doubles
	LongestPause time.Duration // up to this
}

func (p TxPolicy) proto() *transactionv1.Policy {
	out := &transactionv1.Policy{}
	for _, f := range []struct {
		is time.Duration
		to **durationpb.Duration
	}{{p.Timeout, &out.Timeout}, {p.CallTimeout, &out.CallTimeout}, {p.FirstPause, &out.FirstPause}, {p.LongestPause, &out.LongestPause}} {
		if f.is != 0 {
			*f.to = durationpb.New(f.is)
		}
	}
	return out
}

// TxState is where a transaction is: PREPARED, RUNNING, COMMITTING, ABORTING, COMMITTED, ABORTED or GIVEN_UP.
type TxState string

// The states that a transaction stays in.
const (
	TxCommitted TxState = "COMMITTED"
	TxAborted   TxState = "ABORTED"
	TxGivenUp   TxState = "GIVEN_UP"
)

// TxStatus is what has become of a transaction.
type TxStatus struct {
	GID, Kind    string
	State        TxState
	Reason       string // why it is being rolled back, or was
	FailedBranch string
	Began, Ended time.Time
	Branches     []TxBranch
}

// TxBranch is what has become of a branch.
type TxBranch struct {
	ID, Op   string
	Done     bool
	Attempts int           // without a known outcome
	Last     string        // what the last of them came to
	Pause    time.Duration // until the next
}

func txStatus(in *transactionv1.Status) TxStatus {
	out := TxStatus{GID: in.GetGid(), Kind: in.GetKind(), State: TxState(strings.TrimPrefix(in.GetState().String(), "STATE_")), Reason: in.GetReason(),
		FailedBranch: in.GetFailedBranch(), Began: moment(in.GetBegan()), Ended: moment(in.GetEnded())}
	for _, b := range in.GetBranches() {
		out.Branches = append(out.Branches, TxBranch{b.GetId(), b.GetOp(), b.GetDone(), int(b.GetAttempts()), b.GetLast(), b.GetPause().AsDuration()})
	}
	return out
}

// ErrRolledBack is what Run and the like fail with when the transaction was rolled back, or given up.
var ErrRolledBack = errors.New("the transaction was rolled back")

func ended(s TxStatus, err error) (TxStatus, error) {
	if err == nil && (s.State == TxAborted || s.State == TxGivenUp) {
		err = fmt.Errorf("%w: %s %s: %s", ErrRolledBack, s.GID, s.State, s.Reason)
	}
	return s, err
}

// Saga is one that is being put together. Its methods change and answer it.
type Saga struct {
	ctx context.Context
	in  *transactionv1.RunSagaRequest
	api transactionv1.TransactionClient
	err error // what cannot be put together
}

// Saga begins to put one together:
//
//	status, err := tx.Saga(ctx).Step("charge", charge, refund).Step("ship", ship).Run()
func (t *Transactions) Saga(ctx context.Context) *Saga {
	return &Saga{ctx: ctx, in: &transactionv1.RunSagaRequest{Component: t.component}, api: t.api}
}

// GID names the saga, such as after the order that it is about, so that running it again runs it once. Otherwise it gets a new one.
func (s *Saga) GID(gid string) *Saga { s.in.Gid = gid; return s }

// Policy says how long it may take.
func (s *Saga) Policy(p TxPolicy) *Saga { s.in.Policy = p.proto(); return s }

// Step adds a step, with what takes it back if that is needed, which is one call.
func (s *Saga) Step(id string, action Call, compensation ...Call) *Saga {
	step := &transactionv1.Step{Id: id, Action: action.proto}
	switch len(compensation) {
	case 0:
	case 1:
		step.Compensation = compensation[0].proto
	default:
		s.err = invalid(fmt.Sprintf("step %q has %d compensations: it takes one", id, len(compensation)))
	}
	s.in.Steps = append(s.in.Steps, step)
	return s
}

// After has the last step come after some, and all others at once: without it each comes after the one before.
func (s *Saga) After(ids ...string) *Saga {
	s.in.Concurrent = true
	if n := len(s.in.Steps); n > 0 {
		s.in.Steps[n-1].After = ids
	} else {
		s.err = invalid("After tells of the last step, and there is none yet")
	}
	return s
}

// Concurrent has all steps begin at once, but for what After says.
func (s *Saga) Concurrent() *Saga { s.in.Concurrent = true; return s }

// Run runs it to its end. It fails with ErrRolledBack when that was rolling it back. When the context ends before, the saga goes on.
func (s *Saga) Run() (TxStatus, error) {
	s.in.Wait = true
	return ended(s.Start())
}

// Start has it run, and does not wait. It fails with ErrInvalid when what was put together is no saga.
func (s *Saga) Start() (TxStatus, error) {
	if s.err != nil {
		return TxStatus{}, s.err
	}
	out, err := s.api.RunSaga(s.ctx, s.in)
	return txStatus(out.GetStatus()), err
}

// TCC is a transaction that is open.
type TCC struct {
	GID string
	t   *Transactions
}

// TCC begins one; an empty gid means a new one. If it is neither committed nor aborted in time it is rolled back.
func (t *Transactions) TCC(ctx context.Context, gid string, p TxPolicy) (*TCC, error) {
	out, err := t.api.Begin(ctx, &transactionv1.BeginRequest{Component: t.component, Gid: gid, Policy: p.proto()})
	return &TCC{out.GetGid(), t}, err
}

// Try notes a branch and calls its try, whose answer it returns. After an error that is not TX_BRANCH_FAILED the same may be tried again.
func (x *TCC) Try(ctx context.Context, branch string, try, confirm, cancel Call) ([]byte, error) {
	out, err := x.t.api.RegisterBranch(ctx, &transactionv1.RegisterBranchRequest{Component: x.t.component, Gid: x.GID, Branch: branch, Try: try.proto, Confirm: confirm.proto, Cancel: cancel.proto})
	return out.GetData(), err
}

// Commit has all branches confirmed, and waits for that.
func (x *TCC) Commit(ctx context.Context) (TxStatus, error) {
	out, err := x.t.api.Commit(ctx, &transactionv1.CommitRequest{Component: x.t.component, Gid: x.GID, Wait: true})
	return ended(txStatus(out.GetStatus()), err)
}

// Abort has all branches cancelled, and does not wait for that.
func (x *TCC) Abort(ctx context.Context) error {
	_, err := x.t.api.Abort(ctx, &transactionv1.AbortRequest{Component: x.t.component, Gid: x.GID})
	return err
}

// Message is one that was prepared.
type Message struct {
	GID string
	t   *Transactions
}

// Prepare notes a message before the work that it tells of. check is how the sidecar asks whether that was done, if it hears nothing.
func (t *Transactions) Prepare(ctx context.Context, gid string, check Call, p TxPolicy, deliveries ...Call) (*Message, error) {
	in := &transactionv1.PrepareMessageRequest{Component: t.component, Gid: gid, Check: check.proto, Policy: p.proto()}
	for _, d := range deliveries {
		in.Deliveries = append(in.Deliveries, &transactionv1.PrepareMessageRequest_Delivery{Call: d.proto})
	}
	out, err := t.api.PrepareMessage(ctx, in)
	return &Message{out.GetGid(), t}, err
}

// Submit has the message delivered, and does not wait for that.
func (m *Message) Submit(ctx context.Context) error {
	_, err := m.t.api.SubmitMessage(ctx, &transactionv1.SubmitMessageRequest{Component: m.t.component, Gid: m.GID})
	return err
}

// Drop says that the work was not done.
func (m *Message) Drop(ctx context.Context) error {
	_, err := m.t.api.Abort(ctx, &transactionv1.AbortRequest{Component: m.t.component, Gid: m.GID})
	return err
}

// Get fails with ErrNotFound for a gid that has no transaction.
func (t *Transactions) Get(ctx context.Context, gid string) (TxStatus, error) {
	out, err := t.api.Get(ctx, &transactionv1.GetRequest{Component: t.component, Gid: gid})
	return txStatus(out.GetStatus()), err
}

// List goes through the application's transactions in these states (none: all) that began so long ago, sorted by gid, without branches. After
// an error, which has no transaction, it ends.
func (t *Transactions) List(ctx context.Context, olderThan time.Duration, states ...TxState) iter.Seq2[TxStatus, error] {
	var older *durationpb.Duration
	if olderThan != 0 {
		older = durationpb.New(olderThan)
	}
	var in []transactionv1.State
	var unknown error
	for _, s := range states {
		n := transactionv1.State(transactionv1.State_value["STATE_"+string(s)])
		if n == transactionv1.State_STATE_UNSPECIFIED {
			unknown = invalid(fmt.Sprintf("unknown state %q (have PREPARED, RUNNING, COMMITTING, ABORTING, COMMITTED, ABORTED, GIVEN_UP)", s))
		}
		in = append(in, n)
	}
	return pages(func(page string) ([]TxStatus, string, error) {
		if unknown != nil {
			return nil, "", unknown
		}
		out, err := t.api.List(ctx, &transactionv1.ListRequest{Component: t.component, OlderThan: older, States: in, PageToken: page})
		if err != nil {
			return nil, "", err
		}
		all := make([]TxStatus, 0, len(out.GetTransactions()))
		for _, s := range out.GetTransactions() {
			all = append(all, txStatus(s))
		}
		return all, out.GetNextPageToken(), nil
	})
}

// Retry, Abort and GiveUp are an operator's: what waits for its next attempt does not; it is rolled back; it is left as it is.
func (t *Transactions) Retry(ctx context.Context, gid string) (TxStatus, error) {
	return t.force(ctx, gid, transactionv1.ForceRequest_DECISION_RETRY)
}

// Abort rolls back what is not yet committed.
func (t *Transactions) Abort(ctx context.Context, gid string) (TxStatus, error) {
	return t.force(ctx, gid, transactionv1.ForceRequest_DECISION_ABORT)
}

// GiveUp leaves a transaction as it is, for ever.
func (t *Transactions) GiveUp(ctx context.Context, gid string) (TxStatus, error) {
	return t.force(ctx, gid, transactionv1.ForceRequest_DECISION_GIVE_UP)
}

func (t *Transactions) force(ctx context.Context, gid string, d transactionv1.ForceRequest_Decision) (TxStatus, error) {
	out, err := t.api.Force(ctx, &transactionv1.ForceRequest{Component: t.component, Gid: gid, Decision: d})
	return txStatus(out.GetStatus()), err
}
