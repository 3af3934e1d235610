package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one that is started again at the same place whenever it was killed.
type process struct {
	name string
	args []string
	env  []string
	log  string

	mu      sync.Mutex
	cmd     *exec.Cmd
	dies    chan struct{} // closed when cmd has ended
	ends    bool
	over    chan struct{}
	kills   int
	strange []string // how it ended otherwise
	panics  []string // what it said when it panicked
	bears   bool     // it is another project's, whose panics are no fault: all has to be right in spite of them
}

// keep runs it until it ends for good.
func (p *process) keep() {
	defer close(p.over)
	for {
		out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			err = p.once(out)
			out.Close()
		}
		p.mu.Lock()
		var exit *exec.ExitError
		panics := errors.As(err, &exit) && exit.ExitCode() == panicked
		if panics && !p.ends {
			p.panics = append(p.panics, lastPanic(p.log))
		}
		switch {
		case p.ends:
			p.mu.Unlock()
			return
		case errors.As(err, &exit) && killed(exit.ProcessState):
			p.kills++
		case panics && p.bears:
		default:
			p.strange = append(p.strange, fmt.Sprint(err))
			time.Sleep(100 * time.Millisecond)
		}
		p.mu.Unlock()
	}
}

// panicked is the status of a process of Go's that has panicked.
const panicked = 2

// lastPanic is what a process wrote of its last panic, up to where that was.
func lastPanic(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	at := max(bytes.LastIndex(text, []byte("\npanic: ")), bytes.LastIndex(text, []byte("\nfatal error: ")))
	if at < 0 {
		return "it does not say why"
	}
	lines := strings.Split(string(text[at+1:]), "\n")
	return strings.Join(lines[:min(len(lines), 16)], "\n")
}

func (p *process) once(out *os.File) error {
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.mu.Lock()
	if p.ends {
		p.mu.Unlock()
		return nil
	}
	err := cmd.Start()
	p.cmd, p.dies = cmd, make(chan struct{})
	p.mu.Unlock()
	if err != nil {
		return err
	}
	defer close(p.dies)
	return cmd.Wait()
}

// kill tells whether that is what it ended by.
func (p *process) kill() bool {
	p.mu.Lock()
	cmd, dies := p.cmd, p.dies
	p.mu.Unlock()
	if cmd == nil || cmd.Process == nil || cmd.Process.Signal(syscall.SIGKILL) != nil {
		return false
	}
	<-dies
	return killed(cmd.ProcessState)
}

func killed(s *os.ProcessState) bool { return s.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL }

// freeze stops a process, or whoever comes to a point, for longer than its lease. If it is killed meanwhile nothing is left to wake. It tells
// whether somebody was stopped.
func (b *bank) freeze(what string) bool {
	pid := 0
	if p := b.processes[what]; p != nil {
		pid = p.pid()
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	} else {
		pid = b.await(what)
	}
	if pid == 0 {
		return false
	}
	time.Sleep(2 * lease)
	return wake(pid)
}

func wake(pid int) bool { return syscall.Kill(pid, syscall.SIGCONT) == nil }

// await has the next that comes to a point stop there, and answers who did; 0: nobody came in time or before all transfers were made, or
// another is awaited there already.
func (b *bank) await(point string) (pid int) {
	if _, awaited := b.awaited.LoadOrStore(point, true); awaited { // also one that was told so, and has not yet been found
		return 0
	}
	defer b.awaited.Delete(point)
	armed := filepath.Join(b.dir, "freeze", point)
	f, err := os.OpenFile(armed, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0
	}
	_ = f.Close() // nothing was written
	come := func() error {
		if pid = stopped(b.dir, point); pid == 0 {
			return errors.New("nobody came there")
		}
		if goesOn(pid) {
			return errors.New("it has said so, and is not yet stopped")
		}
		return nil
	}
	_ = eventually(20*time.Second, func() error {
		if err := come(); err != nil && !b.isOver() {
			return err
		}
		return nil
	})
	if pid == 0 && os.Remove(armed) != nil {
		_ = eventually(time.Second, come) // who came at the last moment is awaited
	}
	_ = os.Remove(filepath.Join(b.dir, "frozen", point))
	return pid
}

// goesOn tells whether a process is there and not stopped.
func goesOn(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(text), ") ")
	return err == nil && !strings.HasPrefix(state, "T") && !strings.HasPrefix(state, "Z")
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// end ends it for good.
func (p *process) end() {
	p.mu.Lock()
	p.ends = true
	p.mu.Unlock()
	p.kill()
	<-p.over
}

// freePorts are ports that nobody has, below those that connections get: one is to be free again for whoever was killed.
func freePorts(n int) (all []string, err error) {
	for at := 12000 + rand.IntN(15000); len(all) < n; at++ {
		if at > 32000 {
			return nil, errors.New("there are not enough free ports from 12000 to 32000")
		}
		ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(at))
		if err != nil {
			continue
		}
		defer ln.Close()
		all = append(all, ln.Addr().String())
	}
	return all, nil
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// start starts the sidecars, which share one data folder, the services and the initiators, and opens the accounts.
func (b *bank) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	const each = 7
	ports, err := freePorts(each*(services+coords) + initiators)
	if err != nil {
		return err
	}
	transactions := drivers[b.driver]
	if transactions.start != nil {
		if err := transactions.start(b); err != nil {
			return err
		}
	}
	child := func(name, role, listen string, sidecars ...string) {
		b.add(name, self, "-role", role, "-listen", listen, "-sidecars", strings.Join(sidecars, ","), "-dir", b.dir, "-barrier="+strconv.FormatBool(b.barrier))
	}
	var banks []string
	for i := range services + coords {
		at := ports[each*i : each*i+each]
		name := fmt.Sprintf("s%d", i)
		config := "state: {default: {driver: local}}\nregistry: {default: {driver: file}}\nmesh: {registry: default}\n"
		if i < services {
			b.states[i], b.apps[i] = newAPI(at[1]), at[5]
			child("application "+name, "serve", at[5], at[1])
			config += transactions.others + fmt.Sprintf("app: {id: %s, port: %s, protocol: http}\n", name, portOf(at[5]))
		} else {
			banks = append(banks, at[1])
			name = "bank" + strconv.Itoa(i-services)
			config += transactions.config(b, at[6]) + fmt.Sprintf("app: {id: bank}\napi: {socket: %s}\n", filepath.Join(b.dir, name+".sock"))
		}
		path := filepath.Join(b.dir, name+".yaml")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return err
		}
		args := []string{"run", "-config", path, "-data-dir", filepath.Join(b.dir, "data")}
		for j, flag := range []string{"grpc", "http", "admin", "inbound", "outbound"} {
			args = append(args, "-"+flag+"-port", portOf(at[j]))
		}
		b.add("sidecar "+name, append([]string{b.binary}, args...)...)
	}
	b.coord = newAPI(banks...)
	for i := range initiators {
		b.initiator[i] = ports[each*(services+coords)+i]
		child(fmt.Sprintf("initiator %d", i), "initiate", b.initiator[i], banks...)
	}
	for _, p := range b.processes {
		go p.keep()
	}
	for a := range accounts {
		err := eventually(time.Minute, func() error {
			_, err := b.states[a%services].call("state.v1.State/Set", object{"key": account(a), "value": encode(strconv.Itoa(money))})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bank) add(name string, args ...string) {
	b.names = append(b.names, name)
	b.processes[name] = &process{name: name, args: args, env: []string{"OUTRIGGER_FAILPOINTS=" + b.dir}, over: make(chan struct{}),
		log: filepath.Join(b.dir, strings.ReplaceAll(name, " ", "-")+".log")}
}

// close ends all of them, and the server.
func (b *bank) close() {
	b.stop()
	if b.server != nil {
		_ = b.server.Close() // what is left of it goes when the next one is started
	}
}

// stop ends all of them. It may be called again.
func (b *bank) stop() {
	var ending sync.WaitGroup
	for _, p := range b.processes {
		if p.begun() {
			ending.Go(p.end)
		}
	}
	ending.Wait()
}

func (p *process) begun() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

func account(a int) string { return fmt.Sprintf("account/%03d", a) }
