// Package native serves the sidecar's own API: one file a service, which decodes a request, makes one call and encodes its
// result. Everything else, errors and limits included, is for the fronts behind it and the api.Guard before it.
package native

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/schedule"
	"github.com/outrigger-mesh/outrigger/components/secret"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	registryv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/registry/v1"
	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
	secretv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/secret/v1"
	sequencev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/sequence/v1"
	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
	transactionv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/transaction/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/grpc"
)

// Deps are what the services call. A service without its field is not registered.
type Deps struct {
	Caches       api.Components[*cache.Cache]
	Configs      api.Components[*config.Config]
	Secrets      api.Components[*secret.Secret]
	States       api.Components[*state.State]
	Locks        api.Components[*lock.Lock]
	Sequences    api.Components[*sequence.Sequence]
	PubSubs      api.Components[*pubsub.PubSub]
	Schedules    api.Components[*schedule.Schedule]
	Transactions api.Components[*transaction.Transactions]
	Naming       Naming
	Invoker      Invoker
	// MaxMessage is how large an answer may be, in bytes: what would not fit in one is not taken. 0: any.
	MaxMessage int
	// Draining ends when the sidecar begins to drain: streams that deliver say so then, and deliver nothing new; what they have
	// delivered may be settled until they end. nil: never.
	Draining context.Context
}

// Register registers the services.
func Register(s grpc.ServiceRegistrar, d Deps) {
	if d.Caches != nil {
		cachev1.RegisterCacheServer(s, &cacheServer{caches: d.Caches})
	}
	if d.Configs != nil {
		configv1.RegisterConfigServer(s, &configServer{configs: d.Configs})
	}
	if d.Secrets != nil {
		secretv1.RegisterSecretServer(s, &secretServer{secrets: d.Secrets})
	}
	if d.States != nil {
		statev1.RegisterStateServer(s, &stateServer{states: d.States, largest: d.MaxMessage})
	}
	if d.PubSubs != nil {
		pubsubv1.RegisterPubSubServer(s, &pubsubServer{pubsubs: d.PubSubs, draining: d.Draining})
	}
	if d.Schedules != nil {
		schedulev1.RegisterScheduleServer(s, &scheduleServer{schedules: d.Schedules, draining: d.Draining})
	}
	if d.Transactions != nil {
		transactionv1.RegisterTransactionServer(s, &transactionServer{transactions: d.Transactions, draining: d.Draining})
	}
	if d.Locks != nil {
		lockv1.RegisterLockServer(s, &lockServer{locks: d.Locks, draining: d.Draining})
	}
	if d.Sequences != nil {
		sequencev1.RegisterSequenceServer(s, &sequenceServer{sequences: d.Sequences})
	}
	if d.Naming != nil {
		registryv1.RegisterRegistryServer(s, &registryServer{naming: d.Naming})
	}
	if d.Invoker != nil {
		invocationv1.RegisterInvocationServer(s, &invocationServer{invoker: d.Invoker})
	}
}

// Patient tells of a method whether it may wait for long: for somebody to free a lock, or for another application to answer.
func Patient(method string) bool {
	switch method {
	case lockv1.Lock_Lock_FullMethodName, invocationv1.Invocation_Invoke_FullMethodName, transactionv1.Transaction_RunSaga_FullMethodName,
		transactionv1.Transaction_RegisterBranch_FullMethodName, transactionv1.Transaction_Commit_FullMethodName, transactionv1.Transaction_Abort_FullMethodName,
		transactionv1.Transaction_SubmitMessage_FullMethodName:
		return true
	}
	return false
}

func caller(ctx context.Context) (components.Caller, error) {
	c, ok := api.CallerFrom(ctx)
	if !ok {
		return c, fmt.Errorf("%w: it is not known whose call this is", components.ErrUnauthenticated)
	}
	return c, nil
}

// open finds a component and the caller.
func open[F any](ctx context.Context, from api.Components[F], name string) (component F, who components.Caller, err error) {
	if component, err = from.Get(name); err != nil {
		return component, who, err
	}
	who, err = caller(ctx)
	return component, who, err
}
