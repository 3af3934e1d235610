package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A bank of four accounts with 1000 each, in two services, and three transfers that went well and two that were taken back.
var (
	sound = map[string]string{
		"account/000": "990", "account/001": "1010", "account/002": "970", "account/003": "1030",
		"note/s1/debit action/0/-10/1": "", "note/s1/credit action/1/10/2": "",
		"note/t1/debit try/2/-20/1": "", "note/t1/credit confirm/3/20/2": "",
		"note/m1//2/-10/1": "", "note/m1/credit action/3/10/2": "", "sent/default/bank/m1": "yes",
		"note/s2/debit action/3/-5/1": "", "note/s2/debit compensation/3/5/2": "",
		"note/t2/debit try/3/-7/1": "", "note/t2/debit cancel/3/7/2": "",
	}
	ended = map[string]string{"s1": committed, "t1": committed, "m1": committed, "s2": aborted, "t2": aborted, "m2": aborted}
	plan  = `[
		{"GID": "s1", "Pattern": "saga", "From": 0, "To": 1, "Amount": 10, "Report": {"Begun": true, "State": "STATE_COMMITTED"}},
		{"GID": "t1", "Pattern": "tcc", "From": 2, "To": 3, "Amount": 20, "Report": {"Begun": true}},
		{"GID": "m1", "Pattern": "message", "From": 2, "To": 3, "Amount": 10, "Report": {"Begun": true}},
		{"GID": "s2", "Pattern": "saga", "From": 3, "To": 0, "Amount": 5, "Report": {"Begun": true, "State": "STATE_ABORTED"}, "Expected": "refused"},
		{"GID": "t2", "Pattern": "tcc", "From": 3, "To": 0, "Amount": 7, "Report": {"Begun": true}},
		{"GID": "m2", "Pattern": "message", "From": 1, "To": 0, "Amount": 7, "Report": {"Begun": true}},
		{"GID": "u1", "Pattern": "saga", "From": 1, "To": 0, "Amount": 7, "Report": {}}]`
)

// planted is a sound run but for what a case changes.
type planted struct {
	ledger, states map[string]string
	run            map[string]any
	hit            string
}

// move moves money, with a note: "GID/BRANCH OP" or "GID/".
func (p *planted) move(note string, account, amount int) {
	key := fmt.Sprintf("account/%03d", account)
	var has int
	_, _ = fmt.Sscan(p.ledger[key], &has)
	p.ledger[key] = fmt.Sprint(has + amount)
	p.ledger[fmt.Sprintf("note/%s/%d/%d/%d", note, account, amount, len(p.ledger))] = ""
}

func (p *planted) drop(keys ...string) {
	for _, k := range keys {
		if _, there := p.ledger[k]; !there {
			panic(k)
		}
		delete(p.ledger, k)
	}
}

func TestAudit(t *testing.T) {
	const fine = "committed 3 aborted 3 unfinished 0 doubled 0 half 0 kills 5 boundaries 2/2 schedule abc\nmoney [+]0\naborted: message else 1, saga refused 1, tcc else 1\n$"
	for _, tc := range []struct {
		name    string
		plant   func(p *planted)
		code    int
		says    string // on the output; fine unless said
		because string // in the faults
	}{
		{"nothing", func(*planted) {}, 0, fine, `^$`},
		{"a debit done twice", func(p *planted) { p.move("s1/debit action", 0, -10) }, 1, "doubled 1", `doubled: .*s1`},
		{"both sides done twice", func(p *planted) { p.move("s1/debit action", 0, -10); p.move("s1/credit action", 1, 10) }, 1, "doubled 1 half 0 .*\nmoney [+]0", `doubled: .*s1`},
		{"a delivery done twice", func(p *planted) { p.move("m1/credit action", 3, 10) }, 1, "doubled 1", `doubled: .*m1`},
		{"a cancel done twice", func(p *planted) { p.move("t2/debit cancel", 3, 7) }, 1, "doubled 1", `doubled: .*t2`},
		{"a saga without its credit", func(p *planted) { p.drop("note/s1/credit action/1/10/2"); p.ledger["account/001"] = "1000" }, 1, "half 1 .*\nmoney -10", `half: .*s1`},
		{"a TCC without its confirm", func(p *planted) { p.drop("note/t1/credit confirm/3/20/2"); p.ledger["account/003"] = "1010" }, 1, "half 1", `half: .*t1`},
		{"a message whose sender has not worked", func(p *planted) { p.drop("note/m1//2/-10/1"); p.ledger["account/002"] = "980" }, 1, "half 1", `half: .*m1`},
		{"committed, and nothing is there", func(p *planted) {
			p.drop("note/s1/debit action/0/-10/1", "note/s1/credit action/1/10/2")
			p.ledger["account/000"], p.ledger["account/001"] = "1000", "1000"
		}, 1, "half 1 .*\nmoney [+]0", `half: .*s1`},
		{"aborted, and not taken back", func(p *planted) { p.drop("note/s2/debit compensation/3/5/2"); p.ledger["account/003"] = "1025" }, 1, "half 1", `half: .*s2`},
		{"taken back, and never done", func(p *planted) { p.move("s2/credit compensation", 0, -5) }, 1, "half 1", `half: .*s2`},
		{"a cancel without its try", func(p *planted) { p.drop("note/t2/debit try/3/-7/1"); p.ledger["account/003"] = "1037" }, 1, "half 1", `half: .*t2`},
		{"an aborted message delivered", func(p *planted) { p.move("m2/credit action", 0, 7) }, 1, "half 1", `half: .*m2`},
		{"committed and compensated", func(p *planted) { p.move("s1/debit compensation", 0, 10); p.move("s1/credit compensation", 1, -10) }, 1, "half 1 .*\nmoney [+]0", `half: .*s1`},
		{"another account, the same sum", func(p *planted) {
			p.drop("note/s1/credit action/1/10/2")
			p.ledger["account/001"] = "1000"
			p.move("s1/credit action", 2, 10)
		}, 1, "half 1 .*\nmoney [+]0", `half: .*s1`},
		{"reported otherwise", func(p *planted) {
			p.states["s1"] = aborted
			p.move("s1/debit compensation", 0, 10)
			p.move("s1/credit compensation", 1, -10)
		}, 1, "half 1", `half: .*s1`},
		{"acknowledged, and not there", func(p *planted) { delete(p.states, "m2") }, 1, "half 1", `half: .*m2`},
		{"never begun, with an effect", func(p *planted) { p.move("u1/debit action", 1, -7); p.move("u1/credit action", 0, 7) }, 1, "half 1 .*\nmoney [+]0", `half: .*u1`},
		{"a note of nobody's", func(p *planted) { p.move("x/debit action", 1, -7); p.move("x/credit action", 0, 7) }, 1, "half 1", `nobody began`},
		{"a transaction of nobody's", func(p *planted) { p.states["x"] = committed }, 1, "half 1", `nobody began`},
		{"running", func(p *planted) { p.states["s2"] = "STATE_RUNNING" }, 1, "unfinished 1", `unfinished: s2 is STATE_RUNNING`},
		{"given up", func(p *planted) { p.states["t2"] = "STATE_GIVEN_UP" }, 1, "unfinished 1", `unfinished: t2`},
		{"money from nowhere", func(p *planted) { p.ledger["account/001"] = "1011" }, 1, "half 1 .*\nmoney [+]1", `account 1 has 1011, by its notes 1010`},
		{"money moved without a note", func(p *planted) { p.ledger["account/001"], p.ledger["account/000"] = "1011", "989" }, 1, "half 2 .*\nmoney [+]0", `account 0 has 989`},
		{"money that was noted comes from nowhere", func(p *planted) { p.move("s2/credit action", 0, 5); p.move("s2/credit compensation", 0, -4) }, 1, "half 1 .*\nmoney [+]1", `half: .*s2`},
		{"too few committed", func(p *planted) { p.run["percent"] = 43 }, 3, "committed 3", `fewer than 43 % of 7`},
		{"a boundary never reached", func(p *planted) { _ = os.Remove(filepath.Join(p.hit, "here")) }, 3, "boundaries 1/2", `never reached: here`},
		{"without barriers some are not", func(p *planted) { _ = os.Remove(filepath.Join(p.hit, "here")); p.run["barrier"] = false }, 0, "boundaries 1/2", `^$`},
		{"a process that ended by itself", func(p *planted) { p.run["strange"] = []string{"sidecar s0 ended by itself"} }, 3, fine, `sidecar s0 ended by itself`},
		{"an account is not there", func(p *planted) { p.drop("account/000") }, 2, "^$", `3 accounts are there, of 4`},
		{"what is no number", func(p *planted) { p.ledger["account/000"] = "" }, 2, "^$", `account/000`},
		{"what is not known", func(p *planted) { p.ledger["other"] = "" }, 2, "^$", `other is neither`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPlanted(t)
			tc.plant(p)
			var out, faults strings.Builder
			code := audit(p.file(t), &out, &faults)
			if code != tc.code || !regexp.MustCompile(tc.says).MatchString(out.String()) || !regexp.MustCompile(tc.because).MatchString(strings.TrimSpace(faults.String())) {
				t.Errorf("it ends with %d, says\n%s%s\nwant %d, %s and %s", code, &out, &faults, tc.code, tc.says, tc.because)
			}
		})
	}
}

func TestMain(m *testing.M) {
	patience, pause = 10*time.Millisecond, time.Millisecond
	os.Exit(m.Run())
}

func newPlanted(t *testing.T) *planted {
	p := &planted{ledger: map[string]string{}, states: map[string]string{}, hit: t.TempDir()}
	for k, v := range sound {
		p.ledger[k] = v
	}
	for k, v := range ended {
		p.states[k] = v
	}
	for _, point := range []string{"here", "there"} {
		if err := os.WriteFile(filepath.Join(p.hit, point), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.run = map[string]any{"accounts": 4, "money": 1000, "percent": 42, "transfers": json.RawMessage(plan), "points": []string{"here", "there"}, "hit": p.hit,
		"kills": 5, "schedule": "abc", "barrier": true}
	return p
}

// file starts what the audit asks: two services, each with half of the keys, that answer three keys a page, and a coordinator.
func (p *planted) file(t *testing.T) string {
	pages := func(method, list string, all []any) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var in struct{ PageToken string }
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.URL.Path != "/outrigger."+method {
				http.Error(w, "what is that?", http.StatusBadRequest)
				return
			}
			const most = 3
			from := 0
			_, _ = fmt.Sscan(in.PageToken, &from)
			out := map[string]any{list: all[from:min(from+most, len(all))]}
			if from+most < len(all) {
				out["nextPageToken"] = fmt.Sprint(from + most)
			}
			_ = json.NewEncoder(w).Encode(out)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	var entries [2][]any
	for k, v := range p.ledger {
		entries[len(k)%2] = append(entries[len(k)%2], map[string]any{"key": k, "item": map[string]any{"value": []byte(v)}})
	}
	var states []any
	for gid, s := range p.states {
		states = append(states, map[string]any{"gid": gid, "state": s})
	}
	p.run["participants"] = []string{pages("state.v1.State/List", "entries", entries[0]), pages("state.v1.State/List", "entries", entries[1])}
	p.run["coordinators"] = []string{pages("transaction.v1.Transaction/List", "transactions", states)}
	text, err := json.Marshal(p.run)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
