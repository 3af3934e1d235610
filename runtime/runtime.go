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
	"github.com/outrigger-mesh/outrigger/runtime/host"
	"github.com/outrigger-mesh/outrigger/runtime/lifecycle"
)

// Options are what a run is started with.
type Options struct {
	Config *config.Config
	Load   func() (*config.Config, error) // reads it again
	// Signals: SIGTERM and SIGINT begin the orderly end, a second one of them cuts it short; SIGHUP reads the configuration
	// again; all others go to the application that was started. SIGTSTP stops the sidecar, too; SIGQUIT without an application
	// ends it as SIGTERM does.
	Signals <-chan os.Signal
	Version string
	Command []string // the application to run beside the sidecar; none: it runs by itself
	Out     io.Writer
	// Replace has it take over from the sidecar of the same application that runs; if none does, it starts as ever.
	Replace bool
}

// ErrStart marks errors of a sidecar that could not start, ErrCut those of one whose orderly end was cut short.
var (
	ErrStart = errors.New("could not start")
	ErrCut   = errors.New("the orderly end was cut short by a second signal")
)

var errEarly = errors.New("ended before it was ready")

// Run runs the sidecar until ctx ends, it is told to end, the application that it started does, or a part of it fails. It
// returns when everything has been brought to an orderly end. With a Command its error is or has a *ChildExit.
func Run(ctx context.Context, o Options) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	s := newSidecar(ctx, o, end)
	defer s.handle(o.Signals)()
	err := s.assemble(ctx)
	if errors.Is(err, context.Canceled) {
		err = errEarly
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	err = lifecycle.Run(ctx, s.drainTime, s.hurriedly(
		lifecycle.Stage{Name: "telemetry", Stop: s.telemetry.Close},
		lifecycle.Stage{Name: "sockets", Stop: s.closeSockets, Done: s.broken},
		lifecycle.Stage{Name: "admin", Start: s.startAdmin, Stop: s.stopAdmin, Done: s.admin.Failed()},
		lifecycle.Stage{Name: "components", Start: s.startComponents, Stop: s.host.Close, Done: s.host.Failed()},
		lifecycle.Stage{Name: "mesh", Start: s.startMesh, Stop: s.stopMesh},
		lifecycle.Stage{Name: "inbound", Start: s.startInbound, Stop: s.stopInbound},
		lifecycle.Stage{Name: "api", Start: s.startAPI, Stop: s.stopAPI},
		lifecycle.Stage{Name: "application", Start: s.startChild, Stop: s.stopChild, Done: s.childDone},
		lifecycle.Stage{Name: "calls of others", Stop: s.turnAway},
		lifecycle.Stage{Name: "ready", Start: s.becomeReady, Stop: s.unpublish},
	)...)
	if err == nil && !s.wasReady.Load() && !s.childEnded() {
		err = errEarly
	}
	if s.cut.Err() != nil {
		err = errors.Join(ErrCut, err)
	} else if err != nil && (!s.wasReady.Load() || errors.Is(err, host.ErrHopeless)) { // which may be found when it is ready already
		err = fmt.Errorf("%w: %w", ErrStart, err)
	}
	return s.withChildExit(err)
}

// finish is what the steps after draining may take: ending streams, flushing, closing.
const finish = 5 * time.Second

// hurriedly ends the time that stages have to stop when the end is cut short.
func (s *sidecar) hurriedly(stages ...lifecycle.Stage) []lifecycle.Stage {
	for i := range stages {
		stop := stages[i].Stop
		stages[i].Stop = func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(s.cut, cancel)()
			return stop(ctx)
		}
	}
	return stages
}
