package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// service keeps accounts in the state of its sidecar, with a note of each movement. What comes is served otherwise than it was sent, if the
// plan says so of the first call of a branch for an operation:
//
//	twice    it is served two times
//	echo     it is served, and once more after a while
//	late     it is served after a while, when its caller has given up
//	lost     it is served, and not answered
type service struct {
	*api
	barrier bool
	dir     string

	mu   sync.Mutex
	seen map[string]bool
	late atomic.Int64 // calls that are still to be served
}

// call is what a service is asked for.
type asked struct {
	path, gid, branch, op string
	account, amount       int
	refuse                bool // what can be refused
}

var errLack = errors.New("not enough money")

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if r.URL.Path == "/late" {
		fmt.Fprint(w, s.late.Load())
		return
	}
	hit(s.dir, "application.arrived")
	q := r.URL.Query()
	c := asked{path: r.URL.Path, gid: r.Header.Get("tx-gid"), branch: r.Header.Get("tx-branch"), op: r.Header.Get("tx-op")}
	c.account, _ = strconv.Atoi(q.Get("account"))
	c.amount, _ = strconv.Atoi(q.Get("amount"))
	c.refuse = q.Has("refuse") && (c.op == "action" || c.op == "try" || c.path == "/work")
	var err error
	switch how, after := s.meddling(c, q.Get(c.op)); how {
	case "twice":
		if err = s.serve(c); err == nil {
			err = s.serve(c)
		}
	case "echo":
		err = s.serve(c)
		s.later(c, after)
	case "late":
		s.later(c, after)
		select {
		case <-r.Context().Done():
		case <-time.After(callTimeout):
		}
		err = errors.New("it is late")
	case "lost":
		_ = s.serve(c)
		panic(http.ErrAbortHandler)
	default:
		err = s.serve(c)
	}
	switch {
	case errors.Is(err, errLack):
		w.Header().Set("tx-reason", "TX_BRANCH_FAILED")
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// meddling is what is to become of a call, once for each.
func (s *service) meddling(c asked, plan string) (how string, after time.Duration) {
	if plan == "" {
		return "", 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := c.gid + " " + c.branch + " " + c.op
	if s.seen[name] {
		return "", 0
	}
	s.seen[name] = true
	how, ms, _ := strings.Cut(plan, ".")
	n, _ := strconv.Atoi(ms)
	return how, time.Duration(n) * time.Millisecond
}

// later serves a call after a while, and until it is served.
func (s *service) later(c asked, after time.Duration) {
	s.late.Add(1)
	go func() {
		defer s.late.Add(-1)
		time.Sleep(after)
		_ = eventually(30*time.Second, func() error {
			if err := s.serve(c); !errors.Is(err, errLack) {
				return err
			}
			return nil
		})
	}()
}

func (s *service) serve(c asked) error {
	switch c.path {
	case "/move":
		return s.move(c, c.amount)
	case "/back":
		return s.move(c, -c.amount)
	case "/nothing":
		return s.move(c, 0)
	case "/work":
		err := s.move(c, c.amount)
		hit(s.dir, "application.worked")
		return err
	case "/check":
		return s.check(c.gid)
	}
	return fmt.Errorf("there is no %s", c.path)
}

// move changes the account and notes that, in one step: behind the barrier, or, of a sender's own work, with a mark that it was done.
// What takes back may leave less than nothing in an account.
func (s *service) move(c asked, amount int) error {
	if c.refuse {
		return errLack
	}
	for {
		out, err := s.call("state.v1.State/Get", object{"key": account(c.account)})
		if err != nil {
			return err
		}
		hit(s.dir, "application.read")
		balance, _ := strconv.Atoi(decode(out["value"]))
		if amount < 0 && balance+amount < 0 && c.path != "/back" {
			return errLack
		}
		ops := []object{{"set": object{"key": account(c.account), "value": encode(strconv.Itoa(balance + amount)), "condition": object{"ifVersion": out["version"]}}}}
		if amount != 0 {
			ops = append(ops, object{"set": object{"key": fmt.Sprintf("note/%s/%s/%d/%d/%d", c.gid[strings.LastIndexByte(c.gid, '/')+1:],
				strings.Trim(c.branch+" "+c.op, " "), c.account, amount, time.Now().UnixNano())}})
		}
		in := object{}
		switch {
		case c.path == "/work":
			ops = append(ops, object{"set": object{"key": "sent/" + c.gid, "value": encode("yes"), "condition": object{"ifAbsent": true}}})
		case s.barrier:
			in["barrier"] = object{"gid": c.gid, "branch": c.branch, "op": c.op}
		}
		in["operations"] = ops
		if _, err = s.call("state.v1.State/Transact", in); code(err) != "aborted" {
			hit(s.dir, "application.done")
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
