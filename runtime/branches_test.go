package runtime_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	transactionv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
)

// participant is an HTTP application that notes which branches it is called for, and refuses those of /no and, the first time, of /conflict and /elsewhere.
type participant struct {
	port int
	mu   sync.Mutex
	said []string
	of   string // the trace that the last one belongs to
}

func startParticipant(t *testing.T) *participant {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &participant{port: ln.Addr().(*net.TCPAddr).Port}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		h := r.Header
		p.said = append(p.said, strings.Join([]string{r.URL.Path, h.Get("tx-gid"), h.Get("tx-branch"), h.Get("tx-op"), h.Get("tx-kind")}, " "))
		p.of = h.Get("traceparent")
		switch r.URL.Path {
		case "/no":
			w.Header().Set("tx-reason", "TX_BRANCH_FAILED")
			http.Error(w, "sold out", http.StatusConflict)
		case "/conflict":
			if p.firstLocked() {
				http.Error(w, "it is locked", http.StatusConflict)
			}
		case "/elsewhere":
			if p.firstLocked() {
				http.Redirect(w, r, "/login", http.StatusFound)
			}
		}
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() { server.Close(); <-done })
	return p
}

// firstLocked tells whether a call is not the one before it again.
func (p *participant) firstLocked() bool {
	n := len(p.said)
	return n < 2 || p.said[n-2] != p.said[n-1]
}

func (p *participant) want(t *testing.T, all ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if got, want := strings.Join(p.said, "\n"), strings.Join(all, "\n"); got != want {
		t.Errorf("the application was called:\n%s\nwant:\n%s", got, want)
	}
	p.said = nil
}

func call(method string) *transactionv1.Call {
	return &transactionv1.Call{To: &transactionv1.Call_Service{Service: "stock"}, Method: method}
}

// TestTransactions goes the whole way: from the API through both sides of the mesh to the application, its streams and a topic.
func TestTransactions(t *testing.T) {
	p := startParticipant(t)
	s := start(t, fmt.Sprintf("app: {port: %d, protocol: http}\ntransaction: {default: {driver: local, options: {durability: os}}}\npubsub: {default: {driver: local}}\n"+
		"registry: {default: {driver: file}}\nmesh: {registry: default}\n", p.port))
	ctx := within(t, 40*time.Second)
	eventually(t, func() error {
		if code, why := s.get("/readyz"); code != http.StatusOK {
			return fmt.Errorf("%s", why)
		}
		return nil
	})
	conn := dial(t, s.grpc)
	api := transactionv1.NewTransactionClient(conn)
	policy := &transactionv1.Policy{FirstPause: durationpb.New(10 * time.Millisecond)}
	eventually(t, func() error { // it does not have to be ready for the sidecar to be
		_, err := api.List(ctx, &transactionv1.ListRequest{})
		return err
	})

	const began = "00-4bf92f3577b34da6a3ce929d0e0e4736-"
	saga, err := api.RunSaga(metadata.AppendToOutgoingContext(ctx, "traceparent", began+"00f067aa0ba902b7-00"), &transactionv1.RunSagaRequest{Gid: "a", Wait: true, Policy: policy, Steps: []*transactionv1.Step{
		{Action: call("one"), Compensation: call("undo")}, {Action: call("conflict")}, {Action: call("elsewhere")}}})
	if err != nil || saga.GetStatus().GetState() != transactionv1.State_STATE_COMMITTED {
		t.Fatal(saga, err)
	}
	p.mu.Lock()
	if !strings.HasPrefix(p.of, began) {
		t.Errorf("its last branch belongs to the trace %q", p.of)
	}
	p.mu.Unlock()
	p.want(t, "/one default/stock/a 1 action saga", "/conflict default/stock/a 2 action saga", "/conflict default/stock/a 2 action saga",
		"/elsewhere default/stock/a 3 action saga", "/elsewhere default/stock/a 3 action saga")

	saga, err = api.RunSaga(ctx, &transactionv1.RunSagaRequest{Gid: "b", Wait: true, Policy: policy, Steps: []*transactionv1.Step{
		{Action: call("one"), Compensation: call("undo")}, {Action: call("no"), Compensation: call("undo")}}})
	if st := saga.GetStatus(); err != nil || st.GetState() != transactionv1.State_STATE_ABORTED || st.GetFailedBranch() != "2" || !strings.Contains(st.GetReason(), "sold out") {
		t.Fatal(saga, err)
	}
	p.want(t, "/one default/stock/b 1 action saga", "/no default/stock/b 2 action saga", "/undo default/stock/b 2 compensation saga", "/undo default/stock/b 1 compensation saga")

	if _, err = api.Begin(ctx, &transactionv1.BeginRequest{Gid: "c"}); err != nil {
		t.Fatal(err)
	}
	if _, err = api.RegisterBranch(ctx, &transactionv1.RegisterBranchRequest{Gid: "c", Branch: "x", Try: call("no"), Confirm: call("one"), Cancel: call("undo")}); status.Code(err) != codes.Aborted {
		t.Fatalf("a try that fails: %v", err)
	}
	if _, err = api.Commit(ctx, &transactionv1.CommitRequest{Gid: "c"}); status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("commit without the try: %v", err)
	}
	if out, err := api.Abort(ctx, &transactionv1.AbortRequest{Gid: "c", Wait: true}); err != nil || out.GetStatus().GetState() != transactionv1.State_STATE_ABORTED {
		t.Fatal(out, err)
	}
	p.want(t, "/no default/stock/c x try tcc", "/undo default/stock/c x cancel tcc")

	served := serve(ctx, t, api)
	events, err := pubsubv1.NewPubSubClient(conn).Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Send(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Start_{Start: &pubsubv1.SubscribeRequest_Start{Topic: "orders", Credit: &commonv1.Credit{Messages: 9}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := events.Recv(); err != nil {
		t.Fatal(err)
	}
	m, err := api.PrepareMessage(ctx, &transactionv1.PrepareMessageRequest{Policy: &transactionv1.Policy{Timeout: durationpb.New(50 * time.Millisecond)},
		Check:      &transactionv1.Call{To: &transactionv1.Call_Stream{Stream: true}, Method: "was it?"},
		Deliveries: []*transactionv1.PrepareMessageRequest_Delivery{{Call: &transactionv1.Call{To: &transactionv1.Call_Topic{Topic: "orders"}, Data: []byte("hello")}}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := <-served; d.GetMethod() != "was it?" || d.GetOp() != "check" || d.GetGid() != "default/stock/"+m.GetGid() {
		t.Errorf("served %v", d)
	}
	got, err := events.Recv()
	if e := got.GetDelivery().GetEvent(); err != nil || string(e.GetData()) != "hello" || e.GetMetadata()["tx-gid"] != "default/stock/"+m.GetGid() {
		t.Errorf("%v, %v", got, err)
	}
	if out, err := api.SubmitMessage(ctx, &transactionv1.SubmitMessageRequest{Gid: m.GetGid(), Wait: true}); err != nil || out.GetStatus().GetState() != transactionv1.State_STATE_COMMITTED {
		t.Error(out, err)
	}
	if _, text := s.get("/metrics"); !strings.Contains(text, `outrigger_transactions{capability="transaction",component="default",driver="local",state="COMMITTED"} 2`) {
		t.Error("the metric is not there")
	}
}

// serve acknowledges the application's branches, and tells of each.
func serve(ctx context.Context, t *testing.T, api transactionv1.TransactionClient) <-chan *transactionv1.ServeResponse_Delivery {
	t.Helper()
	stream, err := api.Serve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&transactionv1.ServeRequest{Message: &transactionv1.ServeRequest_Start_{Start: &transactionv1.ServeRequest_Start{Credit: &commonv1.Credit{Messages: 9}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	all := make(chan *transactionv1.ServeResponse_Delivery, 9)
	go func() {
		for {
			in, err := stream.Recv()
			if err != nil {
				return
			}
			if d := in.GetDelivery(); d != nil {
				all <- d
				_ = stream.Send(&transactionv1.ServeRequest{Message: &transactionv1.ServeRequest_Ack{Ack: &commonv1.Ack{DeliveryIds: []string{d.GetDeliveryId()}}}})
			}
		}
	}()
	return all
}
