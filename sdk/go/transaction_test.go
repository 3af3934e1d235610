package client_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	transactionv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// transactions keep what they were asked for last, and answer what they are told to.
type transactions struct {
	transactionv1.UnimplementedTransactionServer
	mu     sync.Mutex
	asked  proto.Message
	status *transactionv1.Status
	err    error
}

func (s *transactions) note(in proto.Message) (*transactionv1.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = in
	return s.status, s.err
}

func (s *transactions) answer(status *transactionv1.Status, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.err = status, err
}

// want fails if the last request is another one.
func (s *transactions) want(t *testing.T, want proto.Message) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !proto.Equal(s.asked, want) {
		t.Errorf("asked for\n%v\nwant\n%v", s.asked, want)
	}
}

func (s *transactions) RunSaga(_ context.Context, in *transactionv1.RunSagaRequest) (*transactionv1.RunSagaResponse, error) {
	st, err := s.note(in)
	return &transactionv1.RunSagaResponse{Status: st}, err
}

func (s *transactions) Begin(_ context.Context, in *transactionv1.BeginRequest) (*transactionv1.BeginResponse, error) {
	st, err := s.note(in)
	return &transactionv1.BeginResponse{Gid: st.GetGid()}, err
}

func (s *transactions) RegisterBranch(_ context.Context, in *transactionv1.RegisterBranchRequest) (*transactionv1.RegisterBranchResponse, error) {
	_, err := s.note(in)
	return &transactionv1.RegisterBranchResponse{Data: []byte("tried")}, err
}

func (s *transactions) Commit(_ context.Context, in *transactionv1.CommitRequest) (*transactionv1.CommitResponse, error) {
	st, err := s.note(in)
	return &transactionv1.CommitResponse{Status: st}, err
}

func (s *transactions) Abort(_ context.Context, in *transactionv1.AbortRequest) (*transactionv1.AbortResponse, error) {
	st, err := s.note(in)
	return &transactionv1.AbortResponse{Status: st}, err
}

func (s *transactions) PrepareMessage(_ context.Context, in *transactionv1.PrepareMessageRequest) (*transactionv1.PrepareMessageResponse, error) {
	st, err := s.note(in)
	return &transactionv1.PrepareMessageResponse{Gid: st.GetGid()}, err
}

func (s *transactions) SubmitMessage(_ context.Context, in *transactionv1.SubmitMessageRequest) (*transactionv1.SubmitMessageResponse, error) {
	st, err := s.note(in)
	return &transactionv1.SubmitMessageResponse{Status: st}, err
}

func (s *transactions) Get(_ context.Context, in *transactionv1.GetRequest) (*transactionv1.GetResponse, error) {
	st, err := s.note(in)
	return &transactionv1.GetResponse{Status: st}, err
}

// List has two pages.
func (s *transactions) List(_ context.Context, in *transactionv1.ListRequest) (*transactionv1.ListResponse, error) {
	_, err := s.note(in)
	if in.GetPageToken() == "" {
		return &transactionv1.ListResponse{Transactions: []*transactionv1.Status{{Gid: "a"}}, NextPageToken: "a"}, err
	}
	return &transactionv1.ListResponse{Transactions: []*transactionv1.Status{{Gid: "b"}}}, err
}

func (s *transactions) Force(_ context.Context, in *transactionv1.ForceRequest) (*transactionv1.ForceResponse, error) {
	st, err := s.note(in)
	return &transactionv1.ForceResponse{Status: st}, err
}

func withTransactions(t *testing.T) (*client.Transactions, *transactions) {
	t.Helper()
	f := start(t, newWorld(), "127.0.0.1:0")
	return dial(t, client.WithAddress(f.target)).Transactions("tx"), f.transactions
}

func toService(name, method, data string) *transactionv1.Call {
	return &transactionv1.Call{To: &transactionv1.Call_Service{Service: name}, Method: method, Data: []byte(data)}
}

// TestSaga: each word of the builder is what the sidecar is asked for, and the end of a saga what its errors say.
func TestSaga(t *testing.T) {
	ctx := within(t)
	tx, fake := withTransactions(t)
	charge, refund, ship := client.To("payment", "charge", []byte("1")), client.To("payment", "refund", []byte("2")), client.To("shipping", "ship", []byte("3"))

	began, ended := time.Unix(1000, 0).UTC(), time.Unix(1001, 0).UTC()
	fake.answer(&transactionv1.Status{Gid: "g", Kind: "saga", State: transactionv1.State_STATE_COMMITTED, Began: timestamppb.New(began), Ended: timestamppb.New(ended),
		Branches: []*transactionv1.Status_Branch{{Id: "1", Op: "action", Done: true, Attempts: 2, Last: "away", Pause: durationpb.New(time.Second)}}}, nil)
	got, err := tx.Saga(ctx).GID("g").Policy(client.TxPolicy{Timeout: time.Minute, FirstPause: time.Second}).Step("pay", charge, refund).Step("ship", ship).Run()
	want := client.TxStatus{GID: "g", Kind: "saga", State: client.TxCommitted, Began: began, Ended: ended,
		Branches: []client.TxBranch{{ID: "1", Op: "action", Done: true, Attempts: 2, Last: "away", Pause: time.Second}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	steps := []*transactionv1.Step{{Id: "pay", Action: toService("payment", "charge", "1"), Compensation: toService("payment", "refund", "2")},
		{Id: "ship", Action: toService("shipping", "ship", "3")}}
	fake.want(t, &transactionv1.RunSagaRequest{Component: "tx", Gid: "g", Wait: true, Steps: steps,
		Policy: &transactionv1.Policy{Timeout: durationpb.New(time.Minute), FirstPause: durationpb.New(time.Second)}})

	if _, err := tx.Saga(ctx).Step("pay", charge, refund).Step("ship", ship).Start(); err != nil {
		t.Error(err)
	}
	fake.want(t, &transactionv1.RunSagaRequest{Component: "tx", Steps: steps})

	pack := client.ToStream("pack", nil)
	if _, err := tx.Saga(ctx).Step("a", pack).Step("b", pack.As("text/plain")).After("a").Start(); err != nil {
		t.Error(err)
	}
	fake.want(t, &transactionv1.RunSagaRequest{Component: "tx", Concurrent: true, Steps: []*transactionv1.Step{
		{Id: "a", Action: &transactionv1.Call{To: &transactionv1.Call_Stream{Stream: true}, Method: "pack"}},
		{Id: "b", After: []string{"a"}, Action: &transactionv1.Call{To: &transactionv1.Call_Stream{Stream: true}, Method: "pack", ContentType: "text/plain"}}}})
	if _, err := tx.Saga(ctx).Concurrent().Step("a", charge).Start(); err != nil {
		t.Error(err)
	}
	fake.want(t, &transactionv1.RunSagaRequest{Component: "tx", Concurrent: true, Steps: []*transactionv1.Step{{Id: "a", Action: toService("payment", "charge", "1")}}})

	for said, saga := range map[string]*client.Saga{"After": tx.Saga(ctx).After("a").Step("b", charge), "2 compensations": tx.Saga(ctx).Step("pay", charge, refund, refund)} {
		if _, err := saga.Run(); !errors.Is(err, client.ErrInvalid) || !strings.Contains(err.Error(), said) {
			t.Errorf("%s: %v", said, err)
		}
	}

	for _, state := range []transactionv1.State{transactionv1.State_STATE_ABORTED, transactionv1.State_STATE_GIVEN_UP} {
		fake.answer(&transactionv1.Status{Gid: "g", State: state, Reason: "no money", FailedBranch: "pay"}, nil)
		got, err := tx.Saga(ctx).Step("pay", charge).Run()
		if !errors.Is(err, client.ErrRolledBack) || got.FailedBranch != "pay" || got.Reason != "no money" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	fake.answer(nil, problem(codes.AlreadyExists, "TX_EXISTS", "another one has that gid"))
	if _, err := tx.Saga(ctx).Step("pay", charge).Run(); !errors.Is(err, client.ErrExists) || client.Reason(err) != "TX_EXISTS" || errors.Is(err, client.ErrRolledBack) {
		t.Error(err)
	}
}

func TestTCC(t *testing.T) {
	ctx := within(t)
	tx, fake := withTransactions(t)
	fake.answer(&transactionv1.Status{Gid: "made"}, nil)
	x, err := tx.TCC(ctx, "", client.TxPolicy{CallTimeout: time.Second, LongestPause: time.Minute})
	if err != nil || x.GID != "made" {
		t.Fatalf("%+v, %v", x, err)
	}
	fake.want(t, &transactionv1.BeginRequest{Component: "tx", Policy: &transactionv1.Policy{CallTimeout: durationpb.New(time.Second), LongestPause: durationpb.New(time.Minute)}})
	hold, book, free := client.To("seats", "hold", []byte("7")), client.To("seats", "book", nil), client.To("seats", "free", nil)
	data, err := x.Try(ctx, "seat", hold, book, free)
	if err != nil || string(data) != "tried" {
		t.Errorf("%q, %v", data, err)
	}
	fake.want(t, &transactionv1.RegisterBranchRequest{Component: "tx", Gid: "made", Branch: "seat", Try: toService("seats", "hold", "7"), Confirm: toService("seats", "book", ""), Cancel: toService("seats", "free", "")})
	fake.answer(nil, client.BranchFailed("sold out"))
	if _, err := x.Try(ctx, "seat", hold, book, free); client.Reason(err) != "TX_BRANCH_FAILED" {
		t.Error(err)
	}
	fake.answer(&transactionv1.Status{State: transactionv1.State_STATE_COMMITTED}, nil)
	if got, err := x.Commit(ctx); err != nil || got.State != client.TxCommitted {
		t.Errorf("%+v, %v", got, err)
	}
	fake.want(t, &transactionv1.CommitRequest{Component: "tx", Gid: "made", Wait: true})
	if err := x.Abort(ctx); err != nil {
		t.Error(err)
	}
	fake.want(t, &transactionv1.AbortRequest{Component: "tx", Gid: "made"})
}

func TestMessage(t *testing.T) {
	ctx := within(t)
	tx, fake := withTransactions(t)
	fake.answer(&transactionv1.Status{Gid: "m"}, nil)
	m, err := tx.Prepare(ctx, "m", client.To("orders", "placed", nil), client.TxPolicy{}, client.ToTopic("mail", []byte("1")), client.To("stock", "note", nil))
	if err != nil || m.GID != "m" {
		t.Fatalf("%+v, %v", m, err)
	}
	fake.want(t, &transactionv1.PrepareMessageRequest{Component: "tx", Gid: "m", Check: toService("orders", "placed", ""), Policy: &transactionv1.Policy{},
		Deliveries: []*transactionv1.PrepareMessageRequest_Delivery{{Call: &transactionv1.Call{To: &transactionv1.Call_Topic{Topic: "mail"}, Data: []byte("1")}}, {Call: toService("stock", "note", "")}}})
	if err := m.Submit(ctx); err != nil {
		t.Error(err)
	}
	fake.want(t, &transactionv1.SubmitMessageRequest{Component: "tx", Gid: "m"})
	if err := m.Drop(ctx); err != nil {
		t.Error(err)
	}
	fake.want(t, &transactionv1.AbortRequest{Component: "tx", Gid: "m"})
}

func TestTransactionsOfAnOperator(t *testing.T) {
	ctx := within(t)
	tx, fake := withTransactions(t)
	fake.answer(nil, problem(codes.NotFound, "TX_NOT_FOUND", "there is none"))
	if _, err := tx.Get(ctx, "g"); !errors.Is(err, client.ErrNotFound) {
		t.Error(err)
	}
	fake.answer(&transactionv1.Status{Gid: "g", State: transactionv1.State_STATE_ABORTING}, nil)
	for decision, force := range map[transactionv1.ForceRequest_Decision]func(context.Context, string) (client.TxStatus, error){
		transactionv1.ForceRequest_DECISION_RETRY: tx.Retry, transactionv1.ForceRequest_DECISION_ABORT: tx.Abort, transactionv1.ForceRequest_DECISION_GIVE_UP: tx.GiveUp} {
		if got, err := force(ctx, "g"); err != nil || got.State != "ABORTING" {
			t.Errorf("%+v, %v", got, err)
		}
		fake.want(t, &transactionv1.ForceRequest{Component: "tx", Gid: "g", Decision: decision})
	}
	list := tx.List(ctx, time.Hour, client.TxAborted, "RUNNING")
	var loops sync.WaitGroup
	for range 2 { // each loop is one of its own
		loops.Go(func() {
			all := ""
			for one, err := range list {
				if err != nil {
					t.Error(err)
				}
				all += one.GID
			}
			if all != "ab" {
				t.Errorf("listed %q", all)
			}
		})
	}
	loops.Wait()
	fake.want(t, &transactionv1.ListRequest{Component: "tx", PageToken: "a", OlderThan: durationpb.New(time.Hour),
		States: []transactionv1.State{transactionv1.State_STATE_ABORTED, transactionv1.State_STATE_RUNNING}})
}

// TestBranchFrom reads what a sidecar sends to a gRPC server.
func TestBranchFrom(t *testing.T) {
	for _, c := range []struct {
		md []string
		ok bool
	}{
		{[]string{"tx-gid", "default/shop/g", "tx-branch", "1", "tx-op", "try", "tx-kind", "tcc"}, true},
		{[]string{"tx-gid", "default/shop/g", "tx-branch", "1"}, false},
		{nil, false},
	} {
		b, ok := client.BranchFrom(metadata.NewIncomingContext(t.Context(), metadata.Pairs(c.md...)))
		if ok != c.ok || ok && (b.GID != "default/shop/g" || b.Branch != "1" || b.Op != "try" || b.Kind != "tcc") {
			t.Errorf("%v is %+v, %t", c.md, b, ok)
		}
	}
	if _, ok := client.BranchFrom(t.Context()); ok {
		t.Error("a branch of no call")
	}
}
