//go:build !embedded

package all

import (
	_ "github.com/outrigger-mesh/outrigger/components/cache/redis"
	_ "github.com/outrigger-mesh/outrigger/components/config/etcd"
	_ "github.com/outrigger-mesh/outrigger/components/config/nacos"
	_ "github.com/outrigger-mesh/outrigger/components/lock/etcd"
	_ "github.com/outrigger-mesh/outrigger/components/lock/postgres"
	_ "github.com/outrigger-mesh/outrigger/components/lock/redis"
	_ "github.com/outrigger-mesh/outrigger/components/pubsub/kafka"
	_ "github.com/outrigger-mesh/outrigger/components/pubsub/nats"
	_ "github.com/outrigger-mesh/outrigger/components/pubsub/rabbitmq"
	_ "github.com/outrigger-mesh/outrigger/components/pubsub/redis"
	_ "github.com/outrigger-mesh/outrigger/components/registry/etcd"
	_ "github.com/outrigger-mesh/outrigger/components/registry/nacos"
	_ "github.com/outrigger-mesh/outrigger/components/registry/zookeeper"
	_ "github.com/outrigger-mesh/outrigger/components/sequence/etcd"
	_ "github.com/outrigger-mesh/outrigger/components/sequence/postgres"
	_ "github.com/outrigger-mesh/outrigger/components/sequence/redis"
	_ "github.com/outrigger-mesh/outrigger/components/state/postgres"
	_ "github.com/outrigger-mesh/outrigger/components/state/redis"
	_ "github.com/outrigger-mesh/outrigger/components/transaction/dtm"
)
