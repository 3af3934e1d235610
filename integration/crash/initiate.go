package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// report is what an initiator was told of a transfer.
type report struct {
	Begun bool   // it is acknowledged
	State string // at its end; "": not known
	Died  bool   // the initiator, meanwhile
}

// initiate has an initiator make a transfer.
func initiate(addr string, t transfer) (r report) {
	for {
		err := post("http://"+addr+"/", t, &r)
		if errors.Is(err, syscall.ECONNREFUSED) { // it is being started
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil {
			return report{Died: true}
		}
		return r
	}
}

// initiator makes transfers, through any sidecar of its application.
type initiator struct {
	*api
	dir string
}

func (i *initiator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var t transfer
	if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var out report
	i.hit(t, "before")
	switch t.Pattern {
	case saga:
		i.saga(t, &out)
	case tcc:
		i.tcc(t, &out)
	case message:
		i.message(t, &out)
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (i *initiator) hit(t transfer, where string) {
	hit(i.dir, "initiator."+patterns[t.Pattern]+"."+where)
}

// branch is the call of one side of a transfer.
func branch(t transfer, side, method string) object {
	a, amount := t.To, t.Amount
	if side == "debit" {
		a, amount = t.From, -t.Amount
	}
	v := url.Values{"account": {fmt.Sprint(a)}, "amount": {fmt.Sprint(amount)}}
	if t.Refused && (side == "debit") == (t.Pattern == message) {
		v.Set("refuse", "true")
	}
	for call, how := range t.Meddling {
		if of, op, _ := strings.Cut(call, "."); of == side {
			v.Set(op, how)
		}
	}
	if t.hurries() {
		if of, how, _ := t.hurried(); of == side {
			v.Set("action", how)
		}
	}
	return object{"service": fmt.Sprintf("s%d", a%services), "method": method + "?" + v.Encode()}
}

const tx = "transaction.v1.Transaction/"

// sure does what may fail because somebody was killed, until it is answered.
func (i *initiator) sure(method string, in object) (out object, err error) {
	_ = eventually(30*time.Second, func() error {
		if out, err = i.call(method, in); settled(err) {
			return nil
		}
		return err
	})
	return out, err
}

// settled tells of an error that will be the same when the call is made again.
func settled(err error) bool {
	c := code(err)
	return c == "failed_precondition" || c == "aborted" || c == "already_exists" || c == "not_found" || c == "invalid_argument"
}

// state is what an answer says of the end.
func (r *report) state(out object) {
	status, _ := out["status"].(object)
	if s := text(status, "state"); s == committed || s == aborted {
		r.State = s
	}
}

const (
	committed = "STATE_COMMITTED"
	aborted   = "STATE_ABORTED"
)

func (i *initiator) saga(t transfer, r *report) {
	policy := object{}
	if t.hurries() {
		_, _, policy["timeout"] = t.hurried()
	}
	out, err := i.sure(tx+"RunSaga", object{"gid": t.GID, "concurrent": t.Parallel, "wait": t.Waits, "policy": policy, "steps": []object{
		{"id": "debit", "action": branch(t, "debit", "move"), "compensation": branch(t, "debit", "back")},
		{"id": "credit", "action": branch(t, "credit", "move"), "compensation": branch(t, "credit", "back")}}})
	if err != nil {
		return
	}
	r.Begun = true
	r.state(out)
	i.hit(t, "begun")
	if !t.changesMind() {
		return
	}
	time.Sleep(t.Thinks)
	if out, err := i.sure(tx+"Abort", object{"gid": t.GID}); err == nil { // it may be over already
		r.state(out)
	}
}

func (i *initiator) tcc(t transfer, r *report) {
	if _, err := i.sure(tx+"Begin", object{"gid": t.GID, "policy": object{"timeout": "30s"}}); err != nil {
		return
	}
	r.Begun = true
	i.hit(t, "begun")
	decision := "Commit"
	for _, b := range []object{
		{"gid": t.GID, "branch": "debit", "try": branch(t, "debit", "move"), "confirm": branch(t, "debit", "nothing"), "cancel": branch(t, "debit", "back")},
		{"gid": t.GID, "branch": "credit", "try": branch(t, "credit", "nothing"), "confirm": branch(t, "credit", "move"), "cancel": branch(t, "credit", "nothing")},
	} {
		time.Sleep(t.Thinks)
		if _, err := i.sure(tx+"RegisterBranch", b); err != nil {
			decision = "Abort"
			break
		}
		i.hit(t, "registered")
	}
	i.hit(t, "decides")
	out, err := i.sure(tx+decision, object{"gid": t.GID, "wait": t.Waits})
	if err != nil {
		return
	}
	r.state(out)
	i.hit(t, map[string]string{"Commit": "committed", "Abort": "aborted"}[decision])
}

func (i *initiator) message(t transfer, r *report) {
	if _, err := i.sure(tx+"PrepareMessage", object{"gid": t.GID, "policy": object{"timeout": "5s"}, "check": branch(t, "debit", "check"),
		"deliveries": []object{{"id": "credit", "call": branch(t, "credit", "move")}}}); err != nil {
		return
	}
	r.Begun = true
	i.hit(t, "prepared")
	time.Sleep(t.Thinks)
	work := branch(t, "debit", "work")
	work["metadata"] = object{"tx-gid": "default/bank/" + t.GID}
	var err error
	tries := 0
	_ = eventually(30*time.Second, func() error {
		tries++
		if _, err = i.call("invocation.v1.Invocation/Invoke", work); t.Amount%4 == 1 || settled(err) { // some leave it to the check
			return nil
		}
		return err
	})
	i.hit(t, "worked")
	decision := "SubmitMessage"
	switch {
	case err != nil && t.Amount%2 == 0 && tries == 1 && code(err) == "aborted": // it was not done, and will not be
		decision = "Abort"
	case err != nil:
		return // it will be asked for
	}
	out, err := i.sure(tx+decision, object{"gid": t.GID, "wait": t.Waits})
	if err != nil {
		return
	}
	r.state(out)
	i.hit(t, map[string]string{"SubmitMessage": "submitted", "Abort": "aborted"}[decision])
}
