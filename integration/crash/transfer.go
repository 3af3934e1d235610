package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func branch(t transfer, from bool, method string) object {
	a, amount := t.to, t.amount
	if from {
		a, amount = t.from, -t.amount
	}
	return object{"service": fmt.Sprintf("s%d", a%services), "method": fmt.Sprintf("%s?account=%d&amount=%d", method, a, amount)}
}

// sure does what may fail because somebody was killed, until it is answered.
func sure(do func() error) error {
	return eventually(30*time.Second, func() error {
		err := do()
		if c := code(err); c == "failed_precondition" || c == "aborted" || c == "already_exists" {
			return nil
		}
		return err
	})
}

const tx = "transaction.v1.Transaction/"

func (b *bank) transfer(t transfer) {
	var err error
	time.Sleep(t.thinks)
	switch t.pattern {
	case 0:
		err = sure(func() error {
			_, err := b.coord.call(tx+"RunSaga", object{"gid": t.gid, "concurrent": t.parallel, "steps": []object{
				{"id": "debit", "action": branch(t, true, "move"), "compensation": branch(t, true, "back")},
				{"id": "credit", "action": branch(t, false, "move"), "compensation": branch(t, false, "back")}}})
			return err
		})
	case 1:
		err = b.tcc(t)
	case 2:
		err = b.message(t)
	}
	if err != nil || t.dies {
		return
	}
	out, err := b.coord.call(tx+"Get", object{"gid": t.gid})
	if err == nil {
		status, _ := out["status"].(object)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.reported[t.gid] = text(status, "state")
	}
}

func (b *bank) tcc(t transfer) error {
	if err := sure(func() error { _, err := b.coord.call(tx+"Begin", object{"gid": t.gid}); return err }); err != nil {
		return err
	}
	time.Sleep(t.thinks)
	decision := "Commit"
	for _, x := range []object{
		{"gid": t.gid, "branch": "debit", "try": branch(t, true, "move"), "confirm": branch(t, true, "nothing"), "cancel": branch(t, true, "back")},
		{"gid": t.gid, "branch": "credit", "try": branch(t, false, "nothing"), "confirm": branch(t, false, "move"), "cancel": branch(t, false, "nothing")}} {
		err := eventually(8*time.Second, func() error {
			_, err := b.coord.call(tx+"RegisterBranch", x)
			if code(err) == "aborted" || code(err) == "failed_precondition" {
				decision = "Abort"
				return nil
			}
			return err
		})
		if err != nil {
			decision = "Abort"
		}
	}
	if t.dies {
		return nil
	}
	return sure(func() error { _, err := b.coord.call(tx+decision, object{"gid": t.gid}); return err })
}

func (b *bank) message(t transfer) error {
	err := sure(func() error {
		_, err := b.coord.call(tx+"PrepareMessage", object{"gid": t.gid, "policy": object{"timeout": "5s"}, "check": branch(t, true, "check"),
			"deliveries": []object{{"id": "credit", "call": branch(t, false, "move")}}})
		return err
	})
	if err != nil {
		return err
	}
	time.Sleep(t.thinks)
	call := branch(t, true, "work")
	call["metadata"] = object{"tx-gid": "default/bank/" + t.gid}
	if _, err = b.coord.call("invocation.v1.Invocation/Invoke", call); err != nil || t.dies {
		return err // it will be asked for
	}
	return sure(func() error { _, err := b.coord.call(tx+"SubmitMessage", object{"gid": t.gid}); return err })
}

// service keeps accounts in the state of its sidecar, with a note of each movement.
type service struct {
	api
	barrier bool
}

var errLack = errors.New("not enough money")

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	a, _ := strconv.Atoi(r.URL.Query().Get("account"))
	amount, _ := strconv.Atoi(r.URL.Query().Get("amount"))
	var err error
	switch r.URL.Path {
	case "/move":
		err = s.move(r, a, amount)
	case "/back":
		err = s.move(r, a, -amount)
	case "/nothing":
		err = s.move(r, a, 0)
	case "/work":
		err = s.move(r, a, amount)
	case "/check":
		err = s.check(r.Header.Get("tx-gid"))
	}
	if err == nil && repeated(r) {
		if again := s.move(r, a, map[string]int{"/move": amount, "/back": -amount}[r.URL.Path]); !errors.Is(again, errLack) { // it had enough the first time
			err = again
		}
	}
	switch {
	case errors.Is(err, errLack):
		w.Header().Set("tx-reason", "TX_BRANCH_FAILED")
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// repeated tells of some calls that they come twice, as a network may have it.
func repeated(r *http.Request) bool {
	h := fnv.New32a()
	fmt.Fprint(h, r.Header.Get("tx-gid"), r.Header.Get("tx-branch"), r.Header.Get("tx-op"))
	return h.Sum32()%8 == 0 && (r.URL.Path == "/move" || r.URL.Path == "/back")
}

// move changes the account and notes that, in one step: behind the barrier, or, of a sender's own work, with a mark that it was done.
func (s *service) move(r *http.Request, a, amount int) error {
	gid, op := r.Header.Get("tx-gid"), r.Header.Get("tx-op")
	for {
		out, err := s.call("state.v1.State/Get", object{"key": account(a)})
		if err != nil {
			return err
		}
		balance, _ := strconv.Atoi(decode(out["value"]))
		if balance+amount < 0 {
			return errLack
		}
		ops := []object{{"set": object{"key": account(a), "value": encode(strconv.Itoa(balance + amount)), "condition": object{"ifVersion": out["version"]}}}}
		if amount != 0 {
			ops = append(ops, object{"set": object{"key": fmt.Sprintf("note/%s/%s/%d/%d", gid[strings.LastIndexByte(gid, '/')+1:], op, amount, time.Now().UnixNano())}})
		}
		in := object{"operations": ops}
		switch {
		case r.URL.Path == "/work":
			in["operations"] = append(ops, object{"set": object{"key": "sent/" + gid, "value": encode("yes"), "condition": object{"ifAbsent": true}}})
		case s.barrier:
			in["barrier"] = object{"gid": gid, "branch": r.Header.Get("tx-branch"), "op": op}
		}
		if _, err = s.call("state.v1.State/Transact", in); code(err) != "aborted" {
			return err
		}
	}
}

// check tells whether a sender's work was done, and keeps it from being done later if it was not.
func (s *service) check(gid string) error {
	_, err := s.call("state.v1.State/Set", object{"key": "sent/" + gid, "value": encode("no"), "condition": object{"ifAbsent": true}})
	switch {
	case err == nil:
		return errLack
	case code(err) != "already_exists":
		return err
	}
	out, err := s.call("state.v1.State/Get", object{"key": "sent/" + gid})
	if err == nil && decode(out["value"]) == "no" {
		return errLack
	}
	return err
}

// check waits until all is at rest, and judges by what the services have noted.
func (b *bank) check(hash string) (bool, error) {
	unfinished := 0
	_ = eventually(patience, func() error {
		out, err := b.list("STATE_PREPARED", "STATE_RUNNING", "STATE_COMMITTING", "STATE_ABORTING")
		if unfinished = len(out); err == nil && unfinished > 0 {
			err = fmt.Errorf("%d are not at their end", unfinished)
		}
		return err
	})
	var all map[string]string
	if err := eventually(30*time.Second, func() (err error) { all, err = b.list(); return err }); err != nil {
		return false, err
	}
	sum, moves := 0, map[string][]int{}
	for _, s := range b.states {
		if err := eventually(30*time.Second, func() error { return read(s, &sum, moves) }); err != nil {
			return false, err
		}
	}
	count, doubled, half := map[string]int{}, 0, 0
	for gid, state := range all {
		count[state]++
		in, out, n := 0, 0, 0
		for _, m := range moves[gid] {
			n++
			if m > 0 {
				in += m
			} else {
				out -= m
			}
		}
		switch {
		case n > 4 || state == "STATE_COMMITTED" && n > 2:
			doubled++
		case in != out || state == "STATE_COMMITTED" && n != 2:
			half++
		}
		if r := b.reported[gid]; (r == "STATE_COMMITTED" || r == "STATE_ABORTED") && r != state {
			half++
		}
		delete(moves, gid)
	}
	half += len(moves) // of transactions that nobody knows
	lost := accounts*money - sum
	fmt.Printf("committed %d aborted %d unfinished %d doubled %d half %d kills %d money %+d schedule %s\n",
		count["STATE_COMMITTED"], count["STATE_ABORTED"], unfinished, doubled, half, b.kills, -lost, hash)
	return unfinished == 0 && doubled == 0 && half == 0 && lost == 0 && count["STATE_COMMITTED"]*10 >= len(all)*6, nil
}

func (b *bank) list(states ...string) (all map[string]string, err error) {
	all = map[string]string{}
	for page := ""; ; {
		out, err := b.coord.call(tx+"List", object{"states": states, "pageToken": page})
		if err != nil {
			return nil, err
		}
		list, _ := out["transactions"].([]any)
		for _, one := range list {
			s, _ := one.(object)
			all[text(s, "gid")] = text(s, "state")
		}
		if page = text(out, "nextPageToken"); page == "" {
			return all, nil
		}
	}
}

// read adds up a service's accounts and movements.
func read(s api, sum *int, moves map[string][]int) error {
	total, found := 0, map[string][]int{}
	for page := ""; ; {
		out, err := s.call("state.v1.State/List", object{"values": true, "pageToken": page})
		if err != nil {
			return err
		}
		entries, _ := out["entries"].([]any)
		for _, e := range entries {
			entry, _ := e.(object)
			words := strings.Split(text(entry, "key"), "/")
			switch words[0] {
			case "account":
				item, _ := entry["item"].(object)
				n, _ := strconv.Atoi(decode(item["value"]))
				total += n
			case "note":
				n, _ := strconv.Atoi(words[3])
				found[words[1]] = append(found[words[1]], n)
			}
		}
		if page = text(out, "nextPageToken"); page == "" {
			break
		}
	}
	*sum += total
	for gid, all := range found {
		moves[gid] = append(moves[gid], all...)
	}
	return nil
}
