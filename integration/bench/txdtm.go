package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/dtm-labs/client/dtmgrpc"
	"github.com/dtm-labs/logger"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// txDTMConfig has DTM's gRPC and HTTP addresses, and the one that DTM calls.
const txDTMConfig = `registry: {default: {driver: file}}
transaction:
  default: {driver: local, options: {retention: 10s}}
  dtm: {driver: dtm, options: {address: %q, http: %q, listen: %q}}
`

// dtmStores are the DTMs that are measured, and what their rows end with. By DTM's own words its store in a file is for development and tests.
var dtmStores = []struct{ server, suffix string }{{"dtm", ""}, {"dtm-postgres", "-postgres"}}

// txDTM compares sagas of two steps that a DTM coordinates: begun through the sidecar, and by DTM's own client, whose branches DTM calls
// without any sidecar, or by the caller's outbound port, as calls of its own would be made. DTM is built and started for it, so it runs only where peers are asked for.
func txDTM(o options) (rows []row, err error) {
	if !o.peers {
		return nil, nil
	}
	for _, s := range dtmStores {
		more, err := compareDTM(o, s.server, s.suffix)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.server, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func compareDTM(o options, server, suffix string) ([]row, error) {
	d, err := servers.Start(context.Background(), server, servers.Options{Output: os.Stdout})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	_, listen, err := free()
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("127.0.0.1:%d", d.Nodes[0].Ports["grpc"])
	p, err := startParticipant(o, fmt.Sprintf(txDTMConfig, at, d.Addr(), listen))
	if err != nil {
		return nil, err
	}
	defer p.end()
	o.concurrences = []int{1, 16}
	return compare(o, []kind{
		{name: "tx-dtm-direct" + suffix, target: p.address, call: directDTM + at, pids: []int{d.Nodes[0].PID()}},
		{name: "tx-dtm-by-mesh" + suffix, target: p.caller.outbound, call: directDTM + at, pids: append(p.pids(), d.Nodes[0].PID()), against: "tx-dtm-direct" + suffix},
		{name: "tx-dtm" + suffix, target: p.caller.grpc, call: "tx-dtm", pids: append(p.pids(), d.Nodes[0].PID()), against: "tx-dtm-direct" + suffix},
	})
}

const directDTM = "dtm-direct:"

// dtmCaller runs the saga of txCaller by DTM's own client.
func dtmCaller(dtm, participant string, in proto.Message) func() error {
	logger.InitLog("error") // or each call is logged, among the figures
	branch := participant + echopb.Echo_Unary_FullMethodName
	return func() error {
		saga := dtmgrpc.NewSagaGrpc(dtm, rand.Text()).Add(branch, branch, in).Add(branch, branch, in)
		saga.WaitResult, saga.TimeoutToFail = true, 60                      // the driver's default: DTM does more for a saga that has an end
		saga.BranchHeaders = map[string]string{"outrigger-service": "echo"} // for a sidecar that is called
		return saga.Submit()
	}
}
