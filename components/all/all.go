// Package all is the standard build: it registers every driver, a line each.
package all

import (
	_ "github.com/outrigger-mesh/outrigger/components/cache/memory"
	_ "github.com/outrigger-mesh/outrigger/components/cache/redis"
	_ "github.com/outrigger-mesh/outrigger/components/config/etcd"
	_ "github.com/outrigger-mesh/outrigger/components/config/file"
	_ "github.com/outrigger-mesh/outrigger/components/config/local"
	_ "github.com/outrigger-mesh/outrigger/components/lock/etcd"
	_ "github.com/outrigger-mesh/outrigger/components/lock/local"
	_ "github.com/outrigger-mesh/outrigger/components/lock/redis"
	_ "github.com/outrigger-mesh/outrigger/components/pubsub/kafka"
	_ "github.com/outrigger-mesh/outrigger/components/pubsub/local"
	_ "github.com/outrigger-mesh/outrigger/components/registry/etcd"
	_ "github.com/outrigger-mesh/outrigger/components/registry/file"
	_ "github.com/outrigger-mesh/outrigger/components/registry/local"
	_ "github.com/outrigger-mesh/outrigger/components/registry/zookeeper"
	_ "github.com/outrigger-mesh/outrigger/components/schedule/local"
	_ "github.com/outrigger-mesh/outrigger/components/secret/env"
	_ "github.com/outrigger-mesh/outrigger/components/secret/file"
	_ "github.com/outrigger-mesh/outrigger/components/sequence/etcd"
	_ "github.com/outrigger-mesh/outrigger/components/sequence/local"
	_ "github.com/outrigger-mesh/outrigger/components/sequence/redis"
	_ "github.com/outrigger-mesh/outrigger/components/state/local"
	_ "github.com/outrigger-mesh/outrigger/components/state/redis"
)
