package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// slowSync is how much longer each sync takes on the slow disk: then it does about as many as a network volume, 200 a second, and
// the processor waits for it.
const slowSync = 4 * time.Millisecond

// slowDisk measures what waits for the disk where that is what limits it: each fsync and fdatasync takes longer, those of the sidecars, of
// DTM and of the comparison alike. strace has the system do that, so the binaries are the same as ever. All else is not slower: only
// these calls are stopped at. See docs/adr/0022-figures-against-the-disk.md.
func slowDisk(o options) ([]row, error) {
	if o.traced {
		return onSlowDisk(o)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out := filepath.Join(o.dir, "slow.json")
	cmd := exec.Command("strace", "--seccomp-bpf", "-f", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync",
		"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_exit=%d", slowSync.Microseconds()),
		self, "-traced", "-only", "slow-disk", "-binary", o.binary, "-rounds", strconv.Itoa(o.rounds), "-length", o.length.String(),
		"-peers="+strconv.FormatBool(o.peers), "-o", out)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // strace ends what it has started then
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("strace: %w", err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	var rows []row
	return rows, json.Unmarshal(text, &rows)
}

func onSlowDisk(o options) ([]row, error) {
	s, err := startState(o)
	if err != nil {
		return nil, err
	}
	rows, err := onDisk(o, s.admin, &kind{name: "state-set-slow", target: s.grpc, call: "state-set", pids: []int{s.pid()}}, 64)
	s.end()
	if err != nil {
		return nil, err
	}
	p, err := startParticipant(o, txConfig)
	if err != nil {
		return nil, err
	}
	more, err := onDisk(o, p.caller.admin, &kind{name: "tx-slow", target: p.caller.grpc, call: "tx-default", pids: p.pids()}, 16)
	p.end()
	if rows = append(rows, more...); err != nil || !o.peers {
		return rows, err
	}
	more, err = compareDTM(o, "dtm", "-slow")
	return append(rows, more...), err
}
