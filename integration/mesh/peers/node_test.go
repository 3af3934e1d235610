package peers_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/lang"
)

const nodePeers = "integration/mesh/peers/node" // below the top of the tree

// fromNode has a client of sofa-rpc-node call a provider of Java through both sidecars. who is what the provider answers.
func fromNode(t *testing.T, outbound, who string) {
	t.Helper()
	const calls = 50
	node := &lang.Program{Name: "peers/mesh-node-to-java", From: nodePeers, Language: lang.Node(), Run: []string{"node", "peer.js"}}
	cmd := node.Command(t.Context(), node.Prepare(t), "client", "bolt", outbound)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	for i := range calls {
		fmt.Fprintln(in, i, "hello", i, 5000)
	}
	answered, failed := 0, 0
	for lines := bufio.NewScanner(out); answered < calls && lines.Scan(); {
		var a struct {
			ID, Value, Error string
			OK               bool
		}
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			continue // it is ready
		}
		answered++
		if a.Value != who+":"+a.ID {
			failed++
			t.Errorf("call %s: %q, %s", a.ID, a.Value, a.Error)
		}
	}
	in.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if answered != calls {
		t.Errorf("%d of %d calls were answered", answered, calls)
	}
	(&jvm{name: "node"}).line("mesh -> mesh", consumerFirst, "sofa-rpc-node calls SOFARPC of Java", answered, failed)
}
