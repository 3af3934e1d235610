package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const deliverConfig = `cache: {default: {driver: memory}}
registry: {default: {driver: file}}
pubsub: # what is delivered is of no more use: let no run fill the disk
  disk: {driver: local, options: {retention: 30s, retention_bytes: 256MiB}}
  os: {driver: local, options: {retention: 30s, retention_bytes: 256MiB, durability: os}}
`

// delivered measures events from their publication to one stream that acknowledges each, beside daprd's with its component
// that keeps them in memory.
func delivered(o options) ([]row, error) {
	file := filepath.Join(o.dir, "deliver.yaml")
	if err := os.WriteFile(file, []byte(deliverConfig), 0o600); err != nil {
		return nil, err
	}
	s, err := startSidecar(o, "bench-deliver", 0, "-config", file)
	if err != nil {
		return nil, err
	}
	defer s.end()
	var kinds []kind
	against := ""
	if o.peers || o.slack > 0 {
		d, err := startDaprd(o)
		if err != nil {
			return nil, fmt.Errorf("daprd: %w", err)
		}
		defer d.end()
		against = "deliver-daprd"
		kinds = append(kinds,
			kind{name: against, target: d.grpc, call: "deliver:daprd:1", pids: []int{d.pid()}},
			kind{name: "deliver-daprd-bulk", target: d.grpc, call: many("daprd"), pids: []int{d.pid()}, against: against})
	} else {
		fmt.Println("daprd is not measured: -peers and -gate do")
		o.concurrences = []int{16}
	}
	for _, durability := range []string{"os", "disk"} {
		kinds = append(kinds,
			kind{name: "deliver-" + durability, target: s.grpc, call: deliverPrefix + durability + ":1", pids: []int{s.pid()}, against: against},
			kind{name: "deliver-" + durability + "-many", target: s.grpc, call: many(durability), pids: []int{s.pid()}, against: against})
	}
	rows, err := compare(o, kinds)
	if x, ok := ratio("deliver-os-many", "deliver-daprd-bulk", 16, opsOf)(lookup(rows)); ok {
		rows = append(rows, row{Name: "deliver-many-to-bulk", Value: x, Unit: "times the events/s of daprd's bulk publication, os, c=16"})
	}
	return rows, err
}

func many(component string) string { return fmt.Sprint(deliverPrefix, component, ":", batched) }
