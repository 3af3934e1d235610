package mesh

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/lang"
)

// programs are the stock peers by language. Each takes: server PROTOCOL PORT, or client PROTOCOL HOST:PORT.
var programs = map[string]*lang.Program{
	"node": {Name: "peers/mesh-node", From: "integration/mesh/peers/node", Language: lang.Node(), Run: []string{"node", "peer.js"}},
}

// process is a peer that runs.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex
	answers map[string]chan answer
	next    int
}

type answer struct {
	ID, Value, Error, Name string
	OK                     bool
}

func (a answer) String() string {
	if a.OK {
		return a.Value
	}
	return "error " + a.Name + ": " + a.Error
}

const startTime = 60 * time.Second

// startPeer starts one and waits until it is ready.
func startPeer(t *testing.T, language, dir, role, protocol, where string) *process {
	t.Helper()
	p := &process{cmd: programs[language].Command(t.Context(), dir, role, protocol, where), answers: map[string]chan answer{}}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	p.cmd.Stderr = said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			line := lines.Text()
			var a answer
			switch {
			case line == "ready":
				close(ready)
			case strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &a) == nil:
				p.mu.Lock()
				to := p.answers[a.ID]
				p.mu.Unlock()
				if to != nil {
					to <- a
				}
			}
		}
	}()
	t.Cleanup(func() { p.kill() })
	select {
	case <-ready:
	case <-ended:
		p.kill()
		t.Fatalf("%s %s %s ended: %s", language, role, protocol, said)
	case <-time.After(startTime):
		t.Fatalf("%s %s %s is not ready", language, role, protocol)
	}
	return p
}

func (p *process) kill() {
	p.in.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// begin starts a call; its answer comes on the channel.
func (p *process) begin(method, arg string, timeout time.Duration) <-chan answer {
	to := make(chan answer, 1)
	p.mu.Lock()
	p.next++
	id := fmt.Sprint(p.next)
	p.answers[id] = to
	p.mu.Unlock()
	fmt.Fprintln(p.in, id, method, arg, timeout.Milliseconds())
	return to
}

func (p *process) call(t *testing.T, method, arg string, timeout time.Duration) answer {
	t.Helper()
	select {
	case a := <-p.begin(method, arg, timeout):
		return a
	case <-time.After(timeout + 10*time.Second):
		t.Fatalf("%s(%s): no answer", method, arg)
	}
	return answer{}
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// sidecars are a provider's and a consumer's.
type sidecars struct{ provider, consumer *harness.Sidecar }

const registries = "registry: {default: {driver: file}}\ntelemetry: {access_log: stdout}\n"

// startSidecars starts both; the provider's publishes peer.Hello, which is served over the protocol on port.
func startSidecars(t *testing.T, protocol string, port int, more string) sidecars {
	t.Helper()
	dir := t.TempDir()
	service := fmt.Sprintf("{name: peer.Hello, version: \"1.0\", protocol: %s, port: %d}", protocol, port)
	if protocol == "dubbo" { // sofa-rpc-node asks for the group SOFA
		service += ", " + strings.Replace(service, "}", ", group: SOFA}", 1)
	}
	return sidecars{
		provider: harness.Start(t, harness.Options{App: "provider", DataDir: dir, Protocol: protocol, AppPort: port, Config: registries + more +
			"app: {services: [" + service + "]}\n"}),
		consumer: harness.Start(t, harness.Options{App: "consumer", DataDir: dir, Config: registries + more}),
	}
}
