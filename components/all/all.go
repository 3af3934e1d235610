// Package all is the standard build: it registers every driver, a line each. With the build tag "embedded" those are left out that need
// a server, and with them the clients that they are made of, a third of the binary.
package all

import (
	_ "github.com/outrigger-mesh/outrigger/components/cache/memory"
	_ "github.com/outrigger-mesh/outrigger/components/config/file"
	_ "github.com/outrigger-mesh/outrigger/components/config/local"
	_ "github.com/outrigger-mesh/outrigger/components/lock/local"
	_ "github.com/outrigger-mesh/outrigger/components/pubsub/local"
	_ "github.com/outrigger-mesh/outrigger/components/registry/file"
	_ "github.com/outrigger-mesh/outrigger/components/registry/local"
	_ "github.com/outrigger-mesh/outrigger/components/schedule/local"
	_ "github.com/outrigger-mesh/outrigger/components/secret/env"
	_ "github.com/outrigger-mesh/outrigger/components/secret/file"
	_ "github.com/outrigger-mesh/outrigger/components/sequence/local"
	_ "github.com/outrigger-mesh/outrigger/components/state/local"
	_ "github.com/outrigger-mesh/outrigger/components/transaction/local"
)
