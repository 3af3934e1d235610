// Crash moves money between accounts of three services, in all three patterns, while it kills sidecars and applications with SIGKILL, and
// then looks at what the services have noted themselves. It knows nothing of Outrigger but its binary and its HTTP API.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	services = 3
	accounts = 100
	money    = 1000 // in each at the beginning
	workers  = 8
	patience = 2 * time.Minute // for all to come to rest
)

// process is one that is killed and started again at the same place.
type process struct {
	name string
	args []string
	env  []string
	mu   sync.Mutex
	cmd  *exec.Cmd
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Env = append(os.Environ(), p.env...)
	return p.cmd.Start()
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil { // it never began
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func main() {
	binary := flag.String("binary", "bin/outrigger", "the sidecar")
	n := flag.Int("tx", 200, "transfers")
	seed := flag.Uint64("seed", 7, "of the schedule")
	barrier := flag.Bool("barrier", true, "have services use their barrier")
	role := flag.String("role", "", "serve: be one of the services")
	listen := flag.String("listen", "", "serve: where")
	sidecar := flag.String("sidecar", "", "serve: its sidecar's HTTP API")
	flag.Parse()
	if *role == "serve" {
		s := &service{api{*sidecar}, *barrier}
		fmt.Fprintln(os.Stderr, http.ListenAndServe(*listen, s))
		os.Exit(2)
	}
	ok, err := run(*binary, *n, *seed, *barrier)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// api is a sidecar's, as JSON over HTTP.
type api struct{ addr string }

var client = &http.Client{Timeout: 20 * time.Second}

type object = map[string]any

// failure is an error that the sidecar has answered.
type failure struct{ Code, Message string }

func (f *failure) Error() string { return f.Code + ": " + f.Message }

func (a api) call(method string, in object) (out object, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	res, err := client.Post("http://"+a.addr+"/outrigger."+method, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		f := &failure{Code: res.Status}
		_ = json.Unmarshal(text, f)
		return nil, f
	}
	return out, json.Unmarshal(text, &out)
}

func code(err error) string {
	if f, ok := err.(*failure); ok {
		return f.Code
	}
	return ""
}

// bank is the run.
type bank struct {
	dir       string
	processes []*process // those that are killed
	coord     api
	states    [services]api
	rng       *rand.Rand

	mu       sync.Mutex
	reported map[string]string
	kills    int
}

func run(binary string, n int, seed uint64, barrier bool) (ok bool, err error) {
	b := &bank{rng: rand.New(rand.NewPCG(seed, 0)), reported: map[string]string{}}
	if b.dir, err = os.MkdirTemp("", "crash"); err != nil {
		return false, err
	}
	defer os.RemoveAll(b.dir)
	defer func() {
		for _, p := range b.processes {
			p.kill()
		}
	}()
	if err := b.start(binary, barrier); err != nil {
		return false, err
	}
	plan, hash := b.plan(n)
	done := make(chan struct{})
	var killing, working sync.WaitGroup
	killing.Go(func() { b.killAll(rand.New(rand.NewPCG(seed, 1)), done) })
	work := make(chan transfer)
	for range workers {
		working.Go(func() {
			for t := range work {
				b.transfer(t)
			}
		})
	}
	for _, t := range plan {
		work <- t
	}
	close(work)
	working.Wait()
	close(done)
	killing.Wait()
	return b.check(hash)
}

// freePorts are addresses that nobody has, all of them different.
func freePorts(n int) (all []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		all = append(all, ln.Addr().String())
	}
	return all, nil
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// start starts the sidecars, which share one data folder, and the services.
func (b *bank) start(binary string, barrier bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ports, err := freePorts(6 * (services + 1))
	if err != nil {
		return err
	}
	for i := range services + 1 {
		at := ports[6*i : 6*i+6]
		name, conf := fmt.Sprintf("s%d", i), filepath.Join(b.dir, fmt.Sprintf("c%d.yaml", i))
		app := fmt.Sprintf("app: {id: %s, port: %s, protocol: http}\n", name, portOf(at[5]))
		if i == services {
			name, app = "bank", "app: {id: bank}\n"
			b.coord = api{at[1]}
		} else {
			b.states[i] = api{at[1]}
			b.processes = append(b.processes, &process{name: "application " + name, args: []string{self, "-role", "serve", "-listen", at[5], "-sidecar", at[1], "-barrier=" + strconv.FormatBool(barrier)}})
		}
		app += "registry: {default: {driver: file}}\nmesh: {registry: default}\nstate: {default: {driver: local}}\n" +
			"transaction: {default: {driver: local, options: {timeout: 20s, call_timeout: 2s, longest_pause: 1s}}}\n"
		if err := os.WriteFile(conf, []byte(app), 0o600); err != nil {
			return err
		}
		args := []string{binary, "run", "-config", conf, "-data-dir", filepath.Join(b.dir, "data")}
		for j, flag := range []string{"grpc", "http", "admin", "inbound", "outbound"} {
			args = append(args, "-"+flag+"-port", portOf(at[j]))
		}
		b.processes = append(b.processes, &process{name: "sidecar " + name, args: args})
	}
	for _, p := range b.processes {
		if err := p.start(); err != nil {
			return err
		}
	}
	for a := range accounts {
		err := eventually(30*time.Second, func() error {
			_, err := b.states[a%services].call("state.v1.State/Set", object{"key": account(a), "value": encode(strconv.Itoa(money))})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func eventually(within time.Duration, do func() error) (err error) {
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		if err = do(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func account(a int) string      { return fmt.Sprintf("account/%03d", a) }
func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
func decode(value any) string {
	s, _ := value.(string)
	b, _ := base64.StdEncoding.DecodeString(s)
	return string(b)
}
func text(o object, k string) string { s, _ := o[k].(string); return s }

// transfer is one of the plan.
type transfer struct {
	gid              string
	pattern          int
	from, to, amount int
	parallel, dies   bool
	thinks           time.Duration // before and within
}

// plan is what is done, and its hash: the same for the same seed.
func (b *bank) plan(n int) (all []transfer, hash string) {
	h := fnv.New64a()
	for i := range n {
		t := transfer{gid: fmt.Sprintf("t%05d", i), pattern: b.rng.IntN(3), from: b.rng.IntN(accounts), amount: 1 + b.rng.IntN(400), parallel: b.rng.IntN(3) == 0, dies: b.rng.IntN(20) == 0,
			thinks: time.Duration(b.rng.IntN(400)) * time.Millisecond}
		t.to = (t.from + 1 + b.rng.IntN(accounts-1)) % accounts
		fmt.Fprintln(h, t)
		all = append(all, t)
	}
	return all, fmt.Sprintf("%016x", h.Sum64())
}

// killAll kills one process after the other, each for a while.
func (b *bank) killAll(rng *rand.Rand, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(100+rng.IntN(500)) * time.Millisecond):
		}
		p := b.processes[rng.IntN(len(b.processes))]
		p.kill()
		b.kills++
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		if err := p.start(); err != nil {
			fmt.Fprintln(os.Stderr, "crash:", p.name, err)
		}
	}
}
