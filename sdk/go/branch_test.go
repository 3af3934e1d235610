package client_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// table is a data base that has nothing but a barrier table. It may take ids for the same that differ in case.
type table struct {
	kept, open map[string]bool
	caseless   bool
}

func (t *table) Connect(context.Context) (driver.Conn, error) { return t, nil }
func (t *table) Driver() driver.Driver                        { return nil }
func (t *table) Close() error                                 { return nil }
func (t *table) Begin() (driver.Tx, error)                    { t.open = maps.Clone(t.kept); return t, nil }
func (t *table) Commit() error                                { t.kept = t.open; return nil }
func (t *table) Rollback() error                              { t.open = nil; return nil }
func (t *table) Prepare(query string) (driver.Stmt, error) {
	if strings.HasPrefix(query, "select gid, branch_id from ") && strings.Count(query, "?") == 3 {
		return record{t}, nil
	}
	if !strings.HasPrefix(query, "insert ") || strings.Count(query, "?")+strings.Count(query, "$") != 6 {
		return nil, fmt.Errorf("unknown query %q", query)
	}
	return statement{t}, nil
}

type statement struct{ *table }

func (statement) NumInput() int                             { return 6 }
func (statement) Query([]driver.Value) (driver.Rows, error) { return nil, errors.New("no query") }
func (s statement) Exec(v []driver.Value) (driver.Result, error) {
	key := fmt.Sprint(v[1], " ", v[2], " ", v[3], " ", v[4]) // what is unique
	if s.find(key) != "" {
		return driver.RowsAffected(0), nil
	}
	s.open[key] = true
	return driver.RowsAffected(1), nil
}

func (t *table) find(key string) string {
	for there := range t.open {
		if there == key || t.caseless && strings.EqualFold(there, key) {
			return there
		}
	}
	return ""
}

// record is the query for one.
type record struct{ *table }

func (record) NumInput() int                              { return 3 }
func (record) Exec([]driver.Value) (driver.Result, error) { return nil, errors.New("no statement") }
func (r record) Query(v []driver.Value) (driver.Rows, error) {
	words := strings.Fields(r.find(fmt.Sprint(v[0], " ", v[1], " ", v[2], " 01")))
	return &row{words}, nil
}

type row struct{ words []string }

func (*row) Columns() []string { return []string{"gid", "branch_id"} }
func (*row) Close() error      { return nil }
func (r *row) Next(v []driver.Value) error {
	if len(r.words) < len(v) {
		return io.EOF
	}
	for i := range v {
		v[i] = r.words[i]
	}
	r.words = nil
	return nil
}

// TestACaselessBarrier is told from one that has let the branch pass before.
func TestACaselessBarrier(t *testing.T) {
	db := sql.OpenDB(&table{kept: map[string]bool{}, caseless: true})
	defer db.Close()
	done := ""
	for _, c := range []struct {
		gid, op string
		fine    bool
	}{{"g", "action", true}, {"g", "action", true}, {"G", "action", false}, {"G", "compensation", false}, {"g", "compensation", true}} {
		err := client.Branch{GID: c.gid, Branch: "1", Op: c.op, Kind: "saga"}.InTx(t.Context(), db, client.MySQL, func(*sql.Tx) error {
			done += c.gid + " " + c.op + ", "
			return nil
		})
		if (err == nil) != c.fine {
			t.Errorf("%s of %s: %v", c.op, c.gid, err)
		}
	}
	if done != "g action, g compensation, " {
		t.Errorf("it did %s", done)
	}
}

// TestInTx: the work is done once, not after it was taken back, and what takes it back does nothing if it never was.
func TestInTx(t *testing.T) {
	for _, c := range []struct{ calls, done string }{
		{"action action compensation compensation", "action compensation"},
		{"compensation action action", ""},
		{"try confirm confirm", "try confirm"},
		{"cancel try cancel", ""},
		{"action! action", "action"}, // the work fails once
	} {
		for _, dialect := range []client.Dialect{client.MySQL, client.PostgreSQL} {
			db := sql.OpenDB(&table{kept: map[string]bool{}})
			var done []string
			for _, op := range strings.Fields(c.calls) {
				op, fails := strings.CutSuffix(op, "!")
				err := client.Branch{GID: "g", Branch: "1", Op: op, Kind: "saga"}.InTx(t.Context(), db, dialect, func(*sql.Tx) error {
					if fails {
						return errors.New("it fails")
					}
					done = append(done, op)
					return nil
				})
				if (err != nil) != fails {
					t.Errorf("%s of %q: %v", op, c.calls, err)
				}
			}
			if got := strings.Join(done, " "); got != c.done {
				t.Errorf("%q did %q, want %q", c.calls, got, c.done)
			}
			db.Close()
		}
	}
}

// TestBranchOf reads what a sidecar sends, and says no as it is understood.
func TestBranchOf(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/charge", nil)
	if _, ok := client.BranchOf(r); ok {
		t.Error("a branch of no transaction")
	}
	for name, value := range map[string]string{"tx-gid": "default/shop/g", "tx-branch": "1", "tx-op": "action", "tx-kind": "saga"} {
		r.Header.Set(name, value)
	}
	b, ok := client.BranchOf(r)
	if barrier := b.Barrier(); !ok || *barrier != (client.Barrier{GID: "default/shop/g", Branch: "1", Op: "action"}) {
		t.Errorf("%+v, %t", b, ok)
	}
	w := httptest.NewRecorder()
	client.FailBranch(w, "sold out")
	if w.Code != http.StatusConflict || w.Header().Get("tx-reason") != "TX_BRANCH_FAILED" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if err := client.BranchFailed("sold out"); client.Reason(err) != "TX_BRANCH_FAILED" {
		t.Errorf("%v", err)
	}
}
