package tx_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	transactionpb "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// refusals are what transactions are refused for, each with its code and reason: the table of docs/transactions.md.
var refusals = []struct {
	what, code, reason string
	do                 func(context.Context, transactionpb.TransactionClient) error
}{
	{"any call about a gid that there is not", "NOT_FOUND", "TX_NOT_FOUND", commit("none")},
	{"a gid that has another transaction", "ALREADY_EXISTS", "TX_EXISTS", saga("saga", step("1"))},
	{"a branch's id with other calls", "ALREADY_EXISTS", "TX_EXISTS", register("open", "tried", "other")},
	{"commit after abort", "FAILED_PRECONDITION", "TX_LATE", commit("aborted")},
	{"abort after commit", "FAILED_PRECONDITION", "TX_LATE", abort("committed")},
	{"a branch after commit or abort", "FAILED_PRECONDITION", "TX_LATE", register("committed", "late", "m")},
	{"retry of what has ended", "FAILED_PRECONDITION", "TX_LATE", force("committed", transactionpb.ForceRequest_DECISION_RETRY)},
	{"commit of a saga", "FAILED_PRECONDITION", "TX_LATE", commit("saga")},
	{"commit while it is not known that each try was OK", "FAILED_PRECONDITION", "TX_NOT_TRIED", commit("open")},
	{"a saga without steps", "INVALID_ARGUMENT", "TX_INVALID", saga("new")},
	{"steps that wait for each other", "INVALID_ARGUMENT", "TX_INVALID", saga("new", step("1", "2"), step("2", "1"))},
	{"a step after one that is not there", "INVALID_ARGUMENT", "TX_INVALID", saga("new", step("1", "2"))},
	{"a step that says after whom, in a saga that is not concurrent", "INVALID_ARGUMENT", "TX_INVALID", func(ctx context.Context, api transactionpb.TransactionClient) error {
		_, err := api.RunSaga(ctx, &transactionpb.RunSagaRequest{Gid: "new", Steps: []*transactionpb.Step{step("1"), step("2", "1")}})
		return err
	}},
	{"two branches of one id", "INVALID_ARGUMENT", "TX_INVALID", saga("new", step("1"), step("1"))},
	{"a branch without a call", "INVALID_ARGUMENT", "TX_INVALID", saga("new", &transactionpb.Step{})},
	{"a gid, or an id of a branch, of more than 64 bytes or with a slash", "INVALID_ARGUMENT", "TX_INVALID", saga("a/b", step("1"))},
	{"a message without a check", "INVALID_ARGUMENT", "TX_INVALID", func(ctx context.Context, api transactionpb.TransactionClient) error {
		_, err := api.PrepareMessage(ctx, &transactionpb.PrepareMessageRequest{Deliveries: []*transactionpb.PrepareMessageRequest_Delivery{{Call: to("m", nil)}}})
		return err
	}},
	{"more than 1000 branches", "RESOURCE_EXHAUSTED", "TX_TOO_LARGE", func(ctx context.Context, api transactionpb.TransactionClient) error {
		return saga("new", make([]*transactionpb.Step, 10_000)...)(ctx, api)
	}},
	{"calls of more than 1 MiB, all together", "RESOURCE_EXHAUSTED", "TX_TOO_LARGE", func(ctx context.Context, api transactionpb.TransactionClient) error {
		return saga("new", &transactionpb.Step{Action: to("m", make([]byte, 1<<20))})(ctx, api)
	}},
}

type doing = func(context.Context, transactionpb.TransactionClient) error

func to(method string, data []byte) *transactionpb.Call {
	return &transactionpb.Call{To: &transactionpb.Call_Service{Service: "nowhere"}, Method: method, Data: data}
}

func step(id string, after ...string) *transactionpb.Step {
	return &transactionpb.Step{Id: id, Action: to("m", nil), After: after}
}

func saga(gid string, steps ...*transactionpb.Step) doing {
	return func(ctx context.Context, api transactionpb.TransactionClient) error {
		_, err := api.RunSaga(ctx, &transactionpb.RunSagaRequest{Gid: gid, Steps: steps, Concurrent: true})
		return err
	}
}

func begin(gid string) doing {
	return func(ctx context.Context, api transactionpb.TransactionClient) error {
		_, err := api.Begin(ctx, &transactionpb.BeginRequest{Gid: gid})
		return err
	}
}

func register(gid, branch, method string) doing {
	return func(ctx context.Context, api transactionpb.TransactionClient) error {
		_, err := api.RegisterBranch(ctx, &transactionpb.RegisterBranchRequest{Gid: gid, Branch: branch, Try: to(method, nil), Confirm: to("m", nil), Cancel: to("m", nil)})
		return err
	}
}

func commit(gid string) doing {
	return func(ctx context.Context, api transactionpb.TransactionClient) error {
		_, err := api.Commit(ctx, &transactionpb.CommitRequest{Gid: gid, Wait: gid == "committed"})
		return err
	}
}

func abort(gid string) doing {
	return func(ctx context.Context, api transactionpb.TransactionClient) error {
		_, err := api.Abort(ctx, &transactionpb.AbortRequest{Gid: gid})
		return err
	}
}

func force(gid string, d transactionpb.ForceRequest_Decision) doing {
	return func(ctx context.Context, api transactionpb.TransactionClient) error {
		_, err := api.Force(ctx, &transactionpb.ForceRequest{Gid: gid, Decision: d})
		return err
	}
}

// TestTransactionsRefused holds each refusal to its code and reason, and the documentation to all of them.
func TestTransactionsRefused(t *testing.T) {
	s, _ := startBank(t, t.TempDir(), "")
	ctx, api := within(t, patience), transactionpb.NewTransactionClient(s.Client().API())
	for _, ready := range []doing{saga("saga", step("1"), step("2")), begin("open"), begin("committed"), commit("committed"), begin("aborted"), abort("aborted")} {
		if err := ready(ctx, api); err != nil {
			t.Fatal(err)
		}
	}
	if err := register("open", "tried", "m")(ctx, api); err == nil {
		t.Fatal("a service that is nowhere has answered")
	}
	table := ""
	for _, c := range refusals {
		err := c.do(ctx, api)
		if got := code.Code(status.Code(err)).String(); got != c.code || client.Reason(err) != c.reason {
			t.Errorf("%s: %v, want %s, %s", c.what, err, c.code, c.reason)
		}
		table += fmt.Sprintf("| %s | `%s` | `%s` |\n", c.what, c.code, c.reason)
	}
	text, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "transactions.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\|.*`TX_.*\n").FindAllString(string(text), -1)
	if got := strings.Join(rows, ""); got != table {
		t.Errorf("docs/transactions.md has the table\n%swant\n%s", got, table)
	}
}
