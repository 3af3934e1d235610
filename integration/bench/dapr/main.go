// Command daprd is Dapr's sidecar, its own packages unchanged, with the two of its components that the benchmark uses. Those of all back
// ends, without which its own command does not start, take longer to build than all the rest. The flags are its own, those of them that
// concern what is measured.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/dapr/components-contrib/nameresolution/kubernetes"
	inmemory "github.com/dapr/components-contrib/pubsub/in-memory"
	"github.com/dapr/dapr/cmd/daprd/options"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/wfbackend"
	"github.com/dapr/dapr/pkg/components/workflows"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/metrics"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/dapr/pkg/runtime/registry"
	"github.com/dapr/dapr/pkg/security"
	"github.com/dapr/kit/logger"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	o, err := options.New(os.Args[1:])
	if err != nil {
		return err
	}
	o.Logger.SetAppID(o.AppID)
	if err := logger.ApplyOptionsToLoggers(&o.Logger); err != nil {
		return err
	}
	health, contrib := healthz.New(), logger.NewLogger("dapr.contrib")
	pubsub.DefaultRegistry.Logger, nameresolution.DefaultRegistry.Logger = contrib, contrib
	workflows.DefaultRegistry.Logger, wfbackend.DefaultRegistry.Logger = contrib, contrib
	pubsub.DefaultRegistry.RegisterComponent(inmemory.New, "in-memory")
	nameresolution.DefaultRegistry.RegisterComponent(kubernetes.NewResolver, "kubernetes")
	secure, err := security.New(ctx, security.Options{AppID: o.AppID, MTLSEnabled: o.EnableMTLS, Mode: modes.DaprMode(o.Mode), Healthz: health,
		ControlPlaneTrustDomain: o.ControlPlaneTrustDomain, ControlPlaneNamespace: o.ControlPlaneNamespace, SentryAddress: o.SentryAddress,
		TrustAnchors: o.TrustAnchors})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- secure.Run(ctx) }()
	handler, err := secure.Handler(ctx)
	if err != nil {
		return err
	}
	r, err := runtime.FromConfig(ctx, &runtime.Config{AppID: o.AppID, Mode: o.Mode, Config: o.Config, ResourcesPath: o.ResourcesPath,
		DaprHTTPPort: o.DaprHTTPPort, DaprAPIGRPCPort: o.DaprAPIGRPCPort, DaprAPIListenAddresses: o.DaprAPIListenAddresses,
		DaprInternalGRPCPort: o.DaprInternalGRPCPort, DaprInternalGRPCListenAddress: o.DaprInternalGRPCListenAddress,
		ProfilePort: o.ProfilePort, AppProtocol: o.AppProtocol, AppChannelAddress: o.AppChannelAddress, AppMaxConcurrency: o.AppMaxConcurrency,
		MaxRequestSize: o.MaxRequestSize, ReadBufferSize: o.ReadBufferSize, AllowedOrigins: o.AllowedOrigins, EnableAPILogging: o.EnableAPILogging,
		DaprGracefulShutdownSeconds: o.DaprGracefulShutdownSeconds, DaprBlockShutdownDuration: o.DaprBlockShutdownDuration,
		Metrics:  metrics.Options{Enabled: o.Metrics.Enabled(), Log: contrib, Port: o.Metrics.Port(), Namespace: metrics.DefaultMetricNamespace, Healthz: health},
		Registry: registry.NewOptions().WithWorkflows(workflows.DefaultRegistry).WithWorkflowBackends(wfbackend.DefaultRegistry),
		Security: handler, Healthz: health})
	if err != nil {
		return err
	}
	if err := r.Run(ctx); err != nil {
		return err
	}
	return <-ended
}
