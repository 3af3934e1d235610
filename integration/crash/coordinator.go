package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// coordinator is a driver of transactions, as it is tried here.
type coordinator struct {
	config func(b *bank, listen string) string // of a sidecar; listen is an address of its own
	others string                              // of sidecars that coordinate nothing
	// stale are the points at which one that drives is about to call or to write what may be another one's by the time it wakes.
	stale []string
	// start starts a server that coordinates, and adds it to the processes as the one named server. Nil: there is none.
	start func(*bank) error
}

const server, base = "dtm", "postgres" // base is the server's data base

// These are put before a point, and make it another one: the server that coordinates, or its data base, is killed while a sidecar stands there.
const whileAt, baseAt = server + "@", base + "@"

var drivers = map[string]coordinator{
	"local": {config: func(*bank, string) string { return local }, others: local,
		stale: []string{"local.decides.ABORTING", "local.decides.COMMITTED", "local.call.action", "local.call.confirm", "local.call.compensation"}},
	"dtm": {config: (*bank).dtm, start: (*bank).startDTM,
		stale: []string{"dtm.sends.commit", "dtm.tells.action", "dtm.call.action", "dtm.call.confirm", "dtm.call.compensation", server}},
}

var local = fmt.Sprintf("transaction: {default: {driver: local, options: {timeout: 60s, call_timeout: %s, longest_pause: 1s, lease: %s}}}\n", callTimeout, lease)

// startDTM starts a DTM on a PostgreSQL: its store in a file does not bear to be killed.
func (b *bank) startDTM() (err error) {
	if b.server, err = servers.Start(context.Background(), "dtm-postgres", servers.Options{Output: os.Stdout}); err != nil {
		return err
	}
	dtm := b.server.Node("dtm")
	if err := dtm.Kill(); err != nil { // it is kept with the others
		return err
	}
	b.add(server, dtm.Command()...)
	b.processes[server].bears = true // when its data base goes away while it starts, DTM 1.19 panics
	b.names = append(b.names, base)
	return nil
}

// dtm has sagas wait for longer than the storm of kills lasts: after one of them DTM may put a call off for half a minute.
func (b *bank) dtm(listen string) string {
	n := b.server.Node("dtm")
	return fmt.Sprintf("transaction: {default: {driver: dtm, options: {address: '127.0.0.1:%d', http: '%s', listen: '%s', timeout: 3m, call_timeout: %s, longest_pause: 1s, retry_interval: 1s}}}\n",
		n.Ports["grpc"], n.Addr, listen, callTimeout)
}

// serverPoints are others made of a point: the server is killed there if it is told or tells something, and its data base if it is to write next.
func (b *bank) serverPoints(point string) (all []string) {
	if drivers[b.driver].start == nil {
		return nil
	}
	if strings.HasPrefix(point, b.driver+".") || strings.HasPrefix(point, "coordinator.stored.") {
		all = append(all, whileAt+point)
	}
	if strings.HasPrefix(point, b.driver+".sends.") || strings.HasPrefix(point, b.driver+".tells.") {
		all = append(all, baseAt+point)
	}
	return all
}

// meddle has whoever reaches a point next die there, or somebody else while a sidecar stands there.
func (b *bank) meddle(point string) {
	if of, ok := strings.CutPrefix(point, whileAt); ok {
		b.meddling.Go(func() { b.killAt(point, of, func() (bool, func()) { return b.processes[server].kill(), func() {} }) })
	} else if of, ok := strings.CutPrefix(point, baseAt); ok {
		b.meddling.Go(func() { b.killAt(point, of, b.killBase) })
	} else {
		arm(b.dir, point)
	}
}

// killAt kills while a sidecar stands at a point. What is to be done after that is done when the sidecar goes on.
func (b *bank) killAt(point, of string, kill func() (killed bool, after func())) {
	for killed := false; !killed && !b.isOver(); {
		pid := b.await(of)
		if pid == 0 { // another one is awaited there, or nobody came
			time.Sleep(50 * time.Millisecond)
			continue
		}
		var after func()
		if killed, after = kill(); killed {
			_ = os.WriteFile(b.hits(point), nil, 0o600)
		}
		wake(pid)
		after()
	}
}

// killBase kills the data base with all of its processes, at once. It has to be started again.
func (b *bank) killBase() (killed bool, start func()) {
	b.basing.Lock()
	n := b.server.Node(base)
	killed = syscall.Kill(n.PID(), 0) == nil
	if killed {
		b.baseKills++
	} else {
		b.baseStrange = append(b.baseStrange, base+" ended by itself")
	}
	err := n.Kill()
	return killed, func() {
		defer b.basing.Unlock()
		if err := errors.Join(err, n.Start(context.Background())); err != nil {
			b.baseStrange = append(b.baseStrange, fmt.Sprintf("%s cannot be started again: %v", base, err))
		}
	}
}
