package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"

	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	sequencev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/sequence/v1"
)

const lockConfig = `mesh: {registry: ""}
lock:
  default: {driver: local}
  os: {driver: local, options: {durability: os}}
sequence:
  default: {driver: local}
  each: {driver: local, options: {ahead: 0}}
`

// lock measures taking and freeing a lock, both together, and drawing a number: with a thousand put aside at once, and each safe on
// the disk by itself.
func lock(o options) ([]row, error) {
	file := filepath.Join(o.dir, "lock.yaml")
	if err := os.WriteFile(file, []byte(lockConfig), 0o600); err != nil {
		return nil, err
	}
	s, err := startSidecar(o, "bench-lock", 0, "-config", file)
	if err != nil {
		return nil, err
	}
	defer s.end()
	var kinds []kind
	for _, name := range []string{"lock-default", "lock-os", "sequence-default", "sequence-each"} {
		kinds = append(kinds, kind{name: name, target: s.grpc, call: name, pids: []int{s.pid()}})
	}
	return compare(o, kinds)
}

var lockNames atomic.Int64

// locker takes and frees a lock of its own with each call.
func locker(conn *grpc.ClientConn, component string) func() error {
	c, name := lockv1.NewLockClient(conn), "l"+strconv.FormatInt(lockNames.Add(1), 10)
	return func() error {
		got, err := c.TryLock(context.Background(), &lockv1.TryLockRequest{Component: component, Name: name})
		if err == nil {
			_, err = c.Unlock(context.Background(), &lockv1.UnlockRequest{Component: component, Name: name, Token: got.GetToken()})
		}
		return err
	}
}

// lockCaller makes the calls of this part; nil for those of others.
func lockCaller(conn *grpc.ClientConn, call string) func() error {
	if component, ok := strings.CutPrefix(call, "lock-"); ok {
		return locker(conn, component)
	}
	if component, ok := strings.CutPrefix(call, "sequence-"); ok {
		c := sequencev1.NewSequenceClient(conn)
		return func() error {
			_, err := c.Next(context.Background(), &sequencev1.NextRequest{Component: component, Key: "k"})
			return err
		}
	}
	return nil
}
