//go:build !race

package all_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// serve is what a service does for a branch: methods are ACCOUNT AMOUNT.
func (b *bank) serve(c *transaction.Call) error {
	var account, amount int
	if _, err := fmt.Sscanf(c.Target.Method, "%d %d", &account, &amount); err != nil {
		return err
	}
	if c.Op == transaction.OpCheck {
		return b.sent(c.GID)
	}
	switch c.Op {
	case transaction.OpCompensation, transaction.OpCancel:
		amount = -amount
	}
	return b.book(c, account, amount)
}

var errLack = errors.New("not enough money")

// book changes an account and notes that, in one step, and behind the barrier.
func (b *bank) book(c *transaction.Call, account, amount int) error {
	ctx := context.Background()
	service := fmt.Sprintf("shop/s%d/", account%3)
	for {
		there, err := b.state.Get(ctx, service+strconv.Itoa(account))
		if err != nil {
			return err
		}
		balance, _ := strconv.Atoi(string(there.Value))
		if forward := c.Op == transaction.OpAction || c.Op == transaction.OpTry; forward && balance+amount < 0 {
			return transaction.Failed(errLack)
		}
		b.mu.Lock()
		b.logged++
		entry := fmt.Sprintf("%slog %s %s %d %d", service, c.GID[strings.LastIndexByte(c.GID, '/')+1:], c.Op, amount, b.logged)
		b.mu.Unlock()
		t := state.Transaction{Operations: []state.Operation{
			{Kind: state.Set, Key: service + strconv.Itoa(account), Item: state.Item{Value: []byte(strconv.Itoa(balance + amount))}, Condition: state.Condition{IfVersion: there.Version}},
			{Kind: state.Set, Key: entry}}}
		if b.guards.barrier {
			t.Barrier = state.Barrier{GID: service + c.GID, Branch: c.Branch, Op: c.Op}
		}
		if _, err = b.state.Transact(ctx, t); !errors.Is(err, components.ErrConflict) {
			return err
		}
	}
}

// sent answers whether the sender of a message has done its work, and has it never done if it was not.
func (b *bank) sent(gid string) error {
	ctx, key := context.Background(), "shop/bank/sent "+gid[strings.LastIndexByte(gid, '/')+1:]
	there, err := b.state.Get(ctx, key)
	if errors.Is(err, components.ErrNotFound) {
		_, err = b.state.Transact(ctx, state.Transaction{Operations: []state.Operation{{Kind: state.Set, Key: key, Item: state.Item{Value: []byte("no")}, Condition: state.Condition{IfAbsent: true}}}})
		if err == nil {
			return transaction.Failed(errors.New("it was not"))
		}
		return err
	}
	if err == nil && string(there.Value) == "no" {
		return transaction.Failed(errors.New("it was not"))
	}
	return err
}

// settle waits until all have ended.
func (b *bank) settle(reported map[string]transaction.State) (faults []string) {
	for range 600 {
		all, _, err := b.drivers[0].List(context.Background(), transaction.Query{Application: bankApp, Limit: 100, States: transaction.States[:4]})
		if err != nil {
			b.t.Fatal(err)
		}
		if len(all) == 0 {
			return nil
		}
		time.Sleep(time.Second)
	}
	return []string{"some have not ended"}
}

// audit looks at the accounts and at what was noted of them.
func (b *bank) audit(reported map[string]transaction.State) (faults []string) {
	ctx := context.Background()
	sum := 0
	net := map[string]map[string]int{} // by gid and what it did
	for s := range 3 {
		entries, _, err := b.state.List(ctx, fmt.Sprintf("shop/s%d/", s), "", 1000, true)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, e := range entries {
			key := e.Key[len("shop/s0/"):]
			words := strings.Fields(key)
			if words[0] != "log" {
				n, _ := strconv.Atoi(string(e.Item.Value))
				sum += n
				continue
			}
			amount, _ := strconv.Atoi(words[3])
			if net[words[1]] == nil {
				net[words[1]] = map[string]int{}
			}
			net[words[1]]["sum"] += amount
			net[words[1]]["moved"] += max(amount, -amount)
		}
	}
	if sum != accounts*begun {
		faults = append(faults, fmt.Sprintf("there are %d, and there were %d", sum, accounts*begun))
	}
	for gid, what := range b.all {
		info, err := b.drivers[0].Get(ctx, bankApp+gid)
		if errors.Is(err, components.ErrNotFound) {
			if net[gid] != nil {
				faults = append(faults, fmt.Sprintf("%s, %s: is not known, and has moved %v", gid, what, net[gid]))
			}
			continue
		}
		if err != nil {
			b.t.Fatal(err)
		}
		n := net[gid]
		if n["sum"] != 0 {
			faults = append(faults, fmt.Sprintf("%s, %s: %s, and has moved %v", gid, what, info.State, n))
		}
		if info.State == transaction.Committed && n["moved"] == 0 {
			faults = append(faults, fmt.Sprintf("%s, %s: committed, and has moved nothing", gid, what))
		}
		if r := reported[gid]; r != "" && r != info.State {
			faults = append(faults, fmt.Sprintf("%s, %s: %s was reported, and it is %s", gid, what, r, info.State))
		}
	}
	return faults
}
