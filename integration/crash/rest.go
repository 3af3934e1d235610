package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rest waits until nothing is under way any more. What is after a while, the audit finds.
func (b *bank) rest() {
	_ = eventually(patience, func() error {
		out, err := b.coord.call(tx+"List", object{"states": []string{"STATE_PREPARED", "STATE_RUNNING", "STATE_COMMITTING", "STATE_ABORTING"}})
		if list, _ := out["transactions"].([]any); err == nil && len(list) > 0 {
			err = errors.New("some are not at their end")
		}
		return errors.Join(err, b.late())
	})
}

// late tells whether services still have calls to serve.
func (b *bank) late() error {
	for _, addr := range b.apps {
		res, err := client.Get("http://" + addr + "/late")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(text) != "0" {
			return fmt.Errorf("%s calls are late: %w", text, err)
		}
	}
	return nil
}

// told is a transfer as the audit is told of it.
type told struct {
	GID, Pattern     string
	From, To, Amount int
	Report           report
	Expected         string
}

// audit has another program judge, which shares nothing with this one, and says how the run ends.
func (b *bank) audit() (code int, err error) {
	kills, all, strange := b.kills()
	var transfers []told
	for i := range b.plan {
		t := &b.plan[i].transfer
		transfers = append(transfers, told{t.GID, patterns[t.Pattern], t.From, t.To, t.Amount, b.reported[t.GID], t.expected(b.reported[t.GID])})
	}
	var participants []string
	for _, s := range b.states {
		participants = append(participants, s.addrs...)
	}
	run, err := json.Marshal(object{"accounts": accounts, "money": money, "percent": percent, "participants": participants, "coordinators": b.coord.addrs,
		"transfers": transfers, "points": b.points, "hit": filepath.Join(b.dir, "hit"), "kills": all, "strange": strange, "schedule": b.hash, "barrier": b.barrier})
	if err != nil {
		return 0, err
	}
	path := filepath.Join(b.dir, "run.json")
	if err := os.WriteFile(path, run, 0o600); err != nil {
		return 0, err
	}
	var line bytes.Buffer
	judge := exec.Command(b.auditor, path)
	judge.Stdout, judge.Stderr = io.MultiWriter(os.Stdout, &line), os.Stderr
	var exit *exec.ExitError
	if err := judge.Run(); errors.As(err, &exit) && exit.Exited() {
		code = exit.ExitCode()
	} else if err != nil {
		return 0, fmt.Errorf("the audit: %w", err)
	}
	took := time.Since(b.begun).Round(time.Second)
	fmt.Printf("frozen %d, %s\n", b.frozen, took)
	for name, p := range b.processes {
		p.mu.Lock()
		for _, said := range p.panics {
			fmt.Printf("%s ended by itself, and was started again: %s\n", name, said)
		}
		p.mu.Unlock()
	}
	if b.report != "" {
		err = b.write(strings.TrimSpace(line.String()), took, kills)
	}
	return code, err
}

// kills are how often processes were, by their kinds, and those that ended by themselves.
func (b *bank) kills() (kinds map[string]int, all int, strange []string) {
	kinds = map[string]int{}
	for name, p := range b.processes {
		kind := strings.TrimRight(name, "0123456789 ")
		kind = strings.TrimSuffix(strings.TrimSuffix(kind, " s"), " bank") + map[bool]string{true: " of the initiators"}[strings.HasSuffix(kind, "bank")]
		p.mu.Lock()
		kinds[kind] += p.kills
		all += p.kills
		for _, how := range p.strange {
			strange = append(strange, name+" ended by itself: "+how)
		}
		p.mu.Unlock()
	}
	if b.server != nil {
		b.basing.Lock()
		defer b.basing.Unlock()
		kinds[base] = b.baseKills
		all += b.baseKills
		strange = append(strange, b.baseStrange...)
	}
	return kinds, all, strange
}

// write writes the report.
func (b *bank) write(line string, took time.Duration, kills map[string]int) error {
	var r strings.Builder
	fmt.Fprintf(&r, "# Transfers under kills\n\n`make crash TX=%d SEED=%d%s`, %s, in %s:\n\n```text\n%s\n```\n\n", b.n, b.seed,
		map[bool]string{true: " DRIVER=" + b.driver}[b.driver != "local"], time.Now().UTC().Format(time.DateOnly), took, line)
	fmt.Fprintf(&r, "Driver %s. Frozen: a coordinator, for %s (a lease, of the driver `local`, is %s), %d times. Killed:\n\n| process | times |\n|---|---|\n", b.driver, 2*lease, lease, b.frozen)
	for _, kind := range slices.Sorted(maps.Keys(kills)) {
		fmt.Fprintf(&r, "| %s | %d |\n", kind, kills[kind])
	}
	died, reported := 0, 0
	for _, one := range b.reported {
		if one.Died {
			died++
		}
		if one.State != "" {
			reported++
		}
	}
	fmt.Fprintf(&r, "\n%d transfers lost their initiator; of %d the initiator was told the end. Each of the %d boundaries was reached: %s.\n",
		died, reported, len(b.points), strings.Join(b.points, ", "))
	return os.WriteFile(filepath.Clean(b.report), []byte(r.String()), 0o644)
}
