package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	transactionv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
)

const (
	txConfig = `registry: {default: {driver: file}}
transaction:
  default: {driver: local, options: {retention: 10s}} # let no run fill the disk
  os: {driver: local, options: {retention: 10s, durability: os}}
`
	calleeConfig = "registry: {default: {driver: file}}\n"
	txData       = 128 // bytes that each branch is called with, and answers
)

// participant is a service with a sidecar, and another sidecar beside it, whose application begins transactions.
type participant struct {
	server         *process
	address        string
	callee, caller *sidecar
}

func (p *participant) end() {
	for _, s := range []*sidecar{p.caller, p.callee} {
		if s != nil {
			s.end()
		}
	}
	p.server.end()
}

// pids are of what stands between those who begin transactions and those who are called.
func (p *participant) pids() []int { return []int{p.caller.pid(), p.callee.pid()} }

func startParticipant(o options, config string) (*participant, error) {
	port, address, err := free()
	if err != nil {
		return nil, err
	}
	p := &participant{address: address}
	if p.server, err = role("serve", address); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		to          **sidecar
		app, config string
		port        int
	}{{&p.caller, "bench-tx", config, 0}, {&p.callee, "echo", calleeConfig, port}} {
		file := filepath.Join(o.dir, s.app+".yaml")
		if err = os.WriteFile(file, []byte(s.config), 0o600); err == nil {
			*s.to, err = startSidecar(o, s.app, s.port, "-config", file)
		}
		if err != nil {
			p.end()
			return nil, err
		}
	}
	if err := published(p.callee); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// tx measures sagas of two steps to their end: what the disk's syncs allow, and, but for a gate, what they add to the calls of their branches.
func tx(o options) ([]row, error) {
	p, err := startParticipant(o, txConfig)
	if err != nil {
		return nil, err
	}
	defer p.end()
	disk := &kind{name: "tx-disk", target: p.caller.grpc, call: "tx-default", pids: p.pids()}
	o.concurrences = []int{16}
	rows, err := compare(o, []kind{{name: "tx-os", target: p.caller.grpc, call: "tx-os", pids: p.pids()}})
	if err != nil {
		return nil, err
	}
	busy, err := onDisk(o, p.caller.admin, disk, 16)
	if err != nil {
		return nil, err
	}
	rows = append(rows, busy...)
	if o.slack > 0 {
		return rows, nil
	}
	added, err := txAdded(o, p, disk)
	return append(rows, added...), err
}

// txAdded is what a saga takes longer, when there is no other, than the calls of its branches and its syncs.
func txAdded(o options, p *participant, disk *kind) ([]row, error) {
	o.concurrences = []int{1}
	rows, err := compare(o, []kind{
		{name: "tx-branches-direct", target: p.address, call: "tx-direct", pids: []int{p.server.pid()}},
		{name: "tx-branches", target: p.caller.grpc, call: "tx-invoke", pids: p.pids()},
		{name: "tx-os", target: p.caller.grpc, call: "tx-os", pids: p.pids()},
	})
	if err != nil {
		return nil, err
	}
	one, err := onDisk(o, p.caller.admin, disk, 1)
	if err != nil {
		return nil, err
	}
	rows = append(rows, one...)
	f := lookup(rows)
	syncs, _ := f("tx-disk-fsyncs-c1", 0)
	saga, _ := f("tx-disk", 1)
	for _, base := range []string{"tx-branches-direct", "tx-branches"} {
		calls, _ := f(base, 1)
		rows = append(rows, row{Name: "tx-added-to-" + strings.TrimPrefix(base, "tx-"), Value: saga.P50 - calls.P50 - txSyncs*1e6/syncs.Value,
			Unit: "us of p50 at c=1 over those calls and two syncs"})
	}
	return rows, nil
}

// txSyncs is how often a saga waits for the disk: when it is begun, and when it has come to its end.
const txSyncs = 2

// txCaller makes the calls whose names begin with "tx-".
func txCaller(conn *grpc.ClientConn, call string) (func() error, error) {
	ctx := context.Background()
	in := &echopb.Message{Data: make([]byte, txData)}
	data, err := proto.Marshal(in)
	if err != nil {
		return nil, err
	}
	twice := func(one func() error) func() error {
		return func() error {
			if err := one(); err != nil {
				return err
			}
			return one()
		}
	}
	if dtm, ok := strings.CutPrefix(call, directDTM); ok {
		return dtmCaller(dtm, conn.Target(), in), nil
	}
	const method = "integration.echo.v1.Echo/Unary"
	switch call {
	case "tx-direct":
		echo := echopb.NewEchoClient(conn)
		return twice(func() error {
			_, err := echo.Unary(ctx, in)
			return err
		}), nil
	case "tx-invoke":
		invocation := invocationv1.NewInvocationClient(conn)
		return twice(func() error {
			_, err := invocation.Invoke(ctx, &invocationv1.InvokeRequest{Service: "echo", Method: method, Data: data})
			return err
		}), nil
	}
	branch := &transactionv1.Call{To: &transactionv1.Call_Service{Service: "echo"}, Method: method, Data: data}
	step := &transactionv1.Step{Action: branch, Compensation: branch}
	saga := &transactionv1.RunSagaRequest{Component: strings.TrimPrefix(call, "tx-"), Steps: []*transactionv1.Step{step, step}, Wait: true}
	transactions := transactionv1.NewTransactionClient(conn)
	return func() error {
		out, err := transactions.RunSaga(ctx, saga)
		if s := out.GetStatus(); err == nil && s.GetState() != transactionv1.State_STATE_COMMITTED {
			err = fmt.Errorf("saga %s: %s %s", s.GetGid(), s.GetState(), s.GetReason())
		}
		return err
	}, nil
}
