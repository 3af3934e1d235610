package client

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	transactionv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
)

// Branch is a call of a branch of a transaction, as whoever is called sees it.
type Branch struct {
	GID, Branch, Op, Kind string

	// Of Serve only.
	Method      string
	Attempt     int
	Data        []byte
	ContentType string
	Metadata    map[string]string
}

// BranchFrom is the call that a gRPC server is serving; false: it is of no transaction.
func BranchFrom(ctx context.Context) (Branch, bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	return branchOf(func(name string) string {
		if v := md.Get(name); len(v) > 0 {
			return v[0]
		}
		return ""
	})
}

// BranchOf is the call that an HTTP server is serving; false: it is of no transaction.
func BranchOf(r *http.Request) (Branch, bool) { return branchOf(r.Header.Get) }

func branchOf(get func(string) string) (Branch, bool) {
	b := Branch{GID: get("tx-gid"), Branch: get("tx-branch"), Op: get("tx-op"), Kind: get("tx-kind")}
	return b, b.GID != "" && b.Branch != "" && b.Op != ""
}

// Barrier is what a Transaction of a State names, so that the branch has its effect once, and none when it was taken back before.
// Whatever the outcome is, the branch is OK.
func (b Branch) Barrier() *Barrier { return &Barrier{GID: b.GID, Branch: b.Branch, Op: b.Op} }

const reasonBranchFailed = "TX_BRANCH_FAILED"

// BranchFailed is the error with which a gRPC server, or a handler of Serve, says that a branch cannot be done, has done nothing and never will:
// the transaction is rolled back. All other errors leave that open. An HTTP server says it with FailBranch.
func BranchFailed(reason string) error {
	st := status.New(codes.Aborted, reason)
	if with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reasonBranchFailed, Domain: domain}); err == nil {
		st = with
	}
	return st.Err()
}

// FailBranch is BranchFailed for an HTTP server.
func FailBranch(w http.ResponseWriter, reason string) {
	w.Header().Set("tx-reason", reasonBranchFailed)
	http.Error(w, reason, http.StatusConflict)
}

// Dialect is how a data base is spoken to.
type Dialect int

// The dialects that have a barrier table.
const (
	MySQL Dialect = iota
	PostgreSQL
)

// barrierTable is DTM's, in which its clients and this one see each other's records.
const barrierTable = "dtm_barrier.barrier"

var barrierInsert = map[Dialect]string{
	MySQL:      "insert ignore into " + barrierTable + "(trans_type, gid, branch_id, op, barrier_id, reason) values(?,?,?,?,?,?)",
	PostgreSQL: "insert into " + barrierTable + "(trans_type, gid, branch_id, op, barrier_id, reason) values($1,$2,$3,$4,$5,$6) on conflict do nothing",
}

// sqlForward has what each op takes back, by the names that the table has.
var sqlForward = map[string]string{"compensate": "action", "cancel": "try"}

const longestSQL = 128 // of a gid in the table

// InTx does the branch's work in a transaction of an SQL data base: once, and not at all when it was taken back before, or has nothing
// to take back. The records are in the table dtm_barrier.barrier, as DTM's clients make it, in MySQL and MariaDB with a collation that
// compares bytes (docs/transactions.md has it). It commits if work answers nil, and otherwise rolls back with its error.
func (b Branch) InTx(ctx context.Context, db *sql.DB, d Dialect, work func(*sql.Tx) error) error {
	if len(b.GID) > longestSQL {
		return invalid(fmt.Sprintf("the gid %q, which is longer than the %d bytes of the barrier table", b.GID, longestSQL))
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	passes, err := b.pass(ctx, tx, d)
	if err == nil && passes {
		err = work(tx)
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

func (b Branch) pass(ctx context.Context, tx *sql.Tx, d Dialect) (bool, error) {
	op := b.Op
	if op == "compensation" {
		op = "compensate"
	}
	claim := func(of string) (bool, error) {
		r, err := tx.ExecContext(ctx, barrierInsert[d], b.Kind, b.GID, b.Branch, of, "01", op)
		if err != nil {
			return false, err
		}
		n, err := r.RowsAffected()
		if err == nil && n == 0 && d == MySQL {
			err = b.isThere(ctx, tx, of)
		}
		return n > 0, err
	}
	forward, compensates := sqlForward[op]
	empty := false
	if compensates {
		var err error
		if empty, err = claim(forward); err != nil {
			return false, err
		}
	}
	own, err := claim(op)
	return own && !empty, err
}

// isThere makes sure that the record which is there is the branch's own: by the collation that MySQL takes unless told otherwise, one whose ids
// differ in case alone is taken for it.
func (b Branch) isThere(ctx context.Context, tx *sql.Tx, op string) error {
	var gid, branch string
	err := tx.QueryRowContext(ctx, "select gid, branch_id from "+barrierTable+" where gid = ? and branch_id = ? and op = ? and barrier_id = '01' lock in share mode",
		b.GID, b.Branch, op).Scan(&gid, &branch)
	if err == nil && (gid != b.GID || branch != b.Branch) {
		err = fmt.Errorf("the barrier table takes branch %q of %q for %q of %q: it has to compare bytes (docs/transactions.md)", b.Branch, b.GID, branch, gid)
	}
	return err
}

// Serve has the branches that go to the application itself handled until ctx ends, as Schedule.Handle does with firings: nil is OK, what
// BranchFailed and Reject answer rolls the transaction back, and another error leaves the outcome open. methods: none means all.
func (t *Transactions) Serve(ctx context.Context, o HandleOptions, methods []string, handle func(context.Context, Branch) error) error {
	if handle == nil {
		return invalid("a handler that is nil")
	}
	l, err := limits{handlers: o.Concurrency, deadline: o.AckDeadline}.filled()
	if err != nil {
		return err
	}
	start := &transactionv1.ServeRequest_Start{Component: t.component, Methods: methods, Credit: l.credit(), AckDeadline: durationpb.New(l.deadline)}
	return t.client.resume(ctx, "transaction", "serve", func(ctx context.Context) error {
		return consume(ctx, l, func(ctx context.Context) (deliveries[Branch], error) { return t.serve(ctx, start) },
			func(ctx context.Context, b Branch) error {
				err := handle(ctx, b)
				if err != nil && status.Code(err) == codes.Aborted && Reason(err) == reasonBranchFailed {
					return Reject(err)
				}
				return err
			})
	})
}

// branches is a stream of deliveries of branches.
type branches struct {
	transactionv1.Transaction_ServeClient
}

func (t *Transactions) serve(ctx context.Context, start *transactionv1.ServeRequest_Start) (branches, error) {
	stream, err := t.api.Serve(ctx)
	if err != nil {
		return branches{}, err
	}
	// That it cannot be sent shows, with the reason, when receiving.
	_ = stream.Send(&transactionv1.ServeRequest{Message: &transactionv1.ServeRequest_Start_{Start: start}})
	return branches{stream}, nil
}

func (s branches) hear() (heard[Branch], error) {
	in, err := s.Recv()
	h := heard[Branch]{started: in.GetStarted() != nil, draining: in.GetDraining() != nil}
	if d := in.GetDelivery(); d != nil {
		h.delivery = &delivery[Branch]{d.GetDeliveryId(), d.GetAttempt(), Branch{GID: d.GetGid(), Branch: d.GetBranch(), Op: d.GetOp(), Kind: d.GetKind(),
			Method: d.GetMethod(), Attempt: int(d.GetAttempt()), Data: d.GetData(), ContentType: d.GetContentType(), Metadata: d.GetMetadata()}}
	}
	return h, err
}

func (s branches) say(message any) error {
	out := &transactionv1.ServeRequest{}
	switch m := message.(type) {
	case *commonv1.Credit:
		out.Message = &transactionv1.ServeRequest_Credit{Credit: m}
	case *commonv1.Ack:
		out.Message = &transactionv1.ServeRequest_Ack{Ack: m}
	case *commonv1.Nack:
		out.Message = &transactionv1.ServeRequest_Nack{Nack: m}
	case *commonv1.Reject:
		out.Message = &transactionv1.ServeRequest_Reject{Reject: m}
	case *commonv1.Extend:
		out.Message = &transactionv1.ServeRequest_Extend{Extend: m}
	}
	return s.Send(out)
}
