// Package runtime assembles the sidecar and runs it from its start to its orderly end.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/lifecycle"
)

// Options are what a run is started with.
type Options struct {
	Config  *config.Config
	Load    func() (*config.Config, error) // reads it again
	Reload  <-chan os.Signal               // asks for that
	Version string
	Command []string // the application to run beside the sidecar; none: it runs by itself
	Out     io.Writer
}

// ErrStart marks errors of a sidecar that could not start.
var ErrStart = errors.New("could not start")

// Run runs the sidecar until ctx ends, the application that it started does, or a part of it fails. It returns when
// everything has been brought to an orderly end. With a Command its error is a *ChildExit when all went well.
func Run(ctx context.Context, o Options) error {
	s, err := assemble(ctx, o)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	c := o.Config
	err = lifecycle.Run(ctx, c.Drain.Propagation+c.Drain.Max+finish,
		lifecycle.Stage{Name: "telemetry", Stop: s.telemetry.Close},
		lifecycle.Stage{Name: "sockets", Stop: s.closeSockets},
		lifecycle.Stage{Name: "admin", Start: s.startAdmin, Stop: s.stopAdmin, Done: s.admin.Failed()},
		lifecycle.Stage{Name: "components", Start: s.startComponents, Stop: s.host.Close},
		lifecycle.Stage{Name: "mesh", Start: s.startMesh, Stop: s.stopMesh},
		lifecycle.Stage{Name: "inbound", Start: s.startInbound, Stop: s.stopInbound},
		lifecycle.Stage{Name: "api", Start: s.startAPI, Stop: s.stopAPI},
		lifecycle.Stage{Name: "application", Start: s.startChild, Stop: s.stopChild, Done: s.childDone},
		lifecycle.Stage{Name: "ready", Start: s.becomeReady, Stop: s.unpublish},
	)
	if !s.wasReady.Load() && err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	return err
}

// finish is what the steps after draining may take: ending streams, flushing, closing.
const finish = 5 * time.Second
