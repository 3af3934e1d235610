package main

import (
	"context"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
)

const pubsubConfig = `cache: {default: {driver: memory}}
registry: {default: {driver: file}}
pubsub:
  default: {driver: local}
  os: {driver: local, options: {durability: os}}
`

// events measures publications; delivered measures what becomes of them.
func events(o options) ([]row, error) {
	file := filepath.Join(o.dir, "pubsub.yaml")
	if err := os.WriteFile(file, []byte(pubsubConfig), 0o600); err != nil {
		return nil, err
	}
	s, err := startSidecar(o, "bench-pubsub", 0, "-config", file)
	if err != nil {
		return nil, err
	}
	defer s.end()
	return compare(o, []kind{
		{name: "publish-os", target: s.grpc, call: "publish-os", pids: []int{s.pid()}},
		{name: "publish", target: s.grpc, call: "publish-default", pids: []int{s.pid()}},
	})
}

// publisher makes the calls whose names begin with "publish-"; what follows is the component.
func publisher(conn *grpc.ClientConn, component string, value []byte) func() error {
	c := pubsubv1.NewPubSubClient(conn)
	return func() error {
		_, err := c.Publish(context.Background(), &pubsubv1.PublishRequest{Component: component, Topic: "bench", Data: value})
		return err
	}
}
