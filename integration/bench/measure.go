package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one that the benchmark has started and ends.
type process struct {
	cmd *exec.Cmd
}

func start(name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return &process{cmd}, cmd.Start()
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) end() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// role starts this program in another role and waits until its port answers.
func role(name string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := start(self, append([]string{name}, args...)...)
	if err != nil {
		return nil, err
	}
	if err := listens(name, args[0]); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// listens waits until a port does.
func listens(name, address string) error {
	for range 500 {
		if nc, err := net.Dial("tcp", address); err == nil {
			nc.Close()
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s does not answer on %s", name, address)
}

// sidecar is the binary under test.
type sidecar struct {
	*process
	grpc, socket, outbound, inbound, admin string
	ready                                  time.Duration // from its start
}

var readyLine = regexp.MustCompile(`is ready: app \S+, grpc (\S+), http \S+, outbound (\S+), inbound (\S+), admin (\S+), pid`)

func startSidecar(o options, app string, port int, more ...string) (*sidecar, error) {
	args := append([]string{"run", "-app-id", app, "-data-dir", o.dir, "-app-protocol", "grpc", "-app-port", strconv.Itoa(port),
		"-grpc-port", "0", "-http-port", "0", "-admin-port", "0", "-inbound-port", "0", "-outbound-port", "0"}, more...)
	cmd := exec.Command(o.binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &sidecar{process: &process{cmd}}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			s.ready = time.Since(began)
			s.grpc, s.outbound, s.inbound, s.admin, s.socket = m[1], m[2], m[3], m[4], "unix:"+filepath.Join(o.dir, "run", "default", app+".sock")
			go io.Copy(io.Discard, out)
			if err := s.settle(); err != nil {
				s.end()
				return nil, err
			}
			return s, nil
		}
	}
	s.end()
	return nil, fmt.Errorf("sidecar %s did not start", app)
}

// startPair starts a sidecar for the application at port, and one that calls it, and waits until that can.
func startPair(o options, app string, port int, more ...string) (callee, caller *sidecar, err error) {
	if callee, err = startSidecar(o, app, port, more...); err != nil {
		return nil, nil, err
	}
	if caller, err = startSidecar(o, "bench-caller", 0); err != nil {
		callee.end()
		return nil, nil, err
	}
	if err := published(callee); err != nil {
		callee.end()
		caller.end()
		return nil, nil, err
	}
	return callee, caller, nil
}

// settle waits until all components are ready, which may come after the sidecar is: the store of one that was killed has to be recovered.
func (s *sidecar) settle() error {
	var info struct {
		Components []struct{ Name, Capability, State, Error string }
	}
	for range 1000 {
		res, err := http.Get("http://" + s.admin + "/info")
		if err != nil {
			return err
		}
		err = json.NewDecoder(res.Body).Decode(&info)
		res.Body.Close()
		if err != nil {
			return err
		}
		waits := false
		for _, c := range info.Components {
			waits = waits || c.State != "ready"
		}
		if !waits && len(info.Components) > 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("components are not ready: %v", info.Components)
}

// cpu is what processes have used, in microseconds, by their own clocks: /proc tells no more than ticks of 10 ms.
func cpu(pids []int) (total float64) {
	for _, pid := range pids {
		var used unix.Timespec
		if unix.ClockGettime(int32(^pid)<<3|2, &used) == nil { // as clock_getcpuclockid(3) makes it
			total += float64(used.Nano()) / 1e3
		}
	}
	return total
}

// kind is one thing to measure in turn with others.
type kind struct {
	name    string
	target  string
	call    string
	pids    []int // whose CPU counts
	hops    int   // over which it is spread
	against string
}

// sample is one measurement.
type sample struct{ ops, p50, p99, cpu float64 }

// compare measures all kinds in turn, for each concurrency, in rounds.
func compare(o options, kinds []kind) ([]row, error) {
	rows, _, err := compared(o, kinds)
	return rows, err
}

// compared answers also the samples of a kind, by its number, and a concurrency, one a round.
func compared(o options, kinds []kind) (_ []row, of func(kind, c int) []sample, err error) {
	type at struct {
		kind, c int
	}
	samples := map[at][]sample{}
	for round := range o.rounds {
		for _, c := range o.concurrences {
			for i := range kinds {
				k := &kinds[(i+round)%len(kinds)] // not always after the same neighbour
				s, err := measure(o, k, c)
				if err != nil {
					return nil, nil, fmt.Errorf("%s at c=%d: %w", k.name, c, err)
				}
				key := at{(i + round) % len(kinds), c}
				samples[key] = append(samples[key], s)
			}
		}
	}
	var rows []row
	for _, c := range o.concurrences {
		base := map[string]float64{}
		for i, k := range kinds {
			r := summary(k.name, c, samples[at{i, c}])
			base[k.name] = r.CPU
			rows = append(rows, r)
		}
		for i, k := range kinds {
			if r := &rows[len(rows)-len(kinds)+i]; k.against != "" && base[k.against] > 0 {
				r.Against, r.Ratio = k.against, r.CPU/base[k.against]
			}
		}
	}
	return rows, func(kind, c int) []sample { return samples[at{kind, c}] }, nil
}

func measure(o options, k *kind, c int) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	cmd := exec.Command(self, "load", k.target, k.call, strconv.Itoa(c), o.length.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	warm, err := cmd.StderrPipe()
	if err != nil {
		return sample{}, err
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	said, err := bufio.NewReader(warm).ReadString('\n')
	before := cpu(k.pids)
	if e := cmd.Wait(); err != nil || e != nil || said != "warm\n" {
		return sample{}, fmt.Errorf("load: %v %v %q", err, e, said)
	}
	used := cpu(k.pids) - before
	var m measured
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		return sample{}, err
	}
	if m.Failed > 0 || m.Calls == 0 {
		return sample{}, fmt.Errorf("%d of %d calls failed, the last with %s", m.Failed, m.Failed+m.Calls, m.Last)
	}
	return sample{ops: float64(m.Calls) / m.Seconds, p50: m.P50, p99: m.P99, cpu: used / float64(m.Calls) / float64(max(k.hops, 1))}, nil
}

func summary(name string, c int, all []sample) row {
	pick := func(f func(sample) float64, q float64) float64 {
		values := make([]float64, 0, len(all))
		for _, s := range all {
			values = append(values, f(s))
		}
		slices.Sort(values)
		return values[int(q*float64(len(values)-1)+0.5)]
	}
	used := func(s sample) float64 { return s.cpu }
	return row{Name: name, C: c, CPU: pick(used, 0.5), CPULow: pick(used, 0.25), CPUHigh: pick(used, 0.75),
		Ops: pick(func(s sample) float64 { return s.ops }, 0.5),
		P50: pick(func(s sample) float64 { return s.p50 }, 0.5), P99: pick(func(s sample) float64 { return s.p99 }, 0.5)}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
