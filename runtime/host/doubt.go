package host

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// doubter sees the calls of a component, and has it checked soon when one has failed for what may be its back end's reason.
type doubter struct {
	next  components.Observer // nil: nobody else wants to know
	doubt chan<- struct{}
}

func (d doubter) Observe(ctx context.Context, id components.ID, op string, start time.Time, err error) {
	if d.next != nil {
		d.next.Observe(ctx, id, op, start, err)
	}
	if err == nil || err == components.ErrNotFound || !dubious(err) {
		return
	}
	raise(d.doubt)
}

func raise(doubt chan<- struct{}) {
	select {
	case doubt <- struct{}{}:
	default: // it will be checked anyway
	}
}

// suspect has all well components of a driver checked soon: what one of them lacks, such as the owner of the local store, the others may
// lack that nobody has called.
func (h *Host) suspect(driver string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.keepers {
		if s := k.state(); s.Driver == driver && s.State == Ready {
			raise(k.doubt)
		}
	}
}

func dubious(err error) bool {
	return errors.Is(err, components.ErrExhausted) || errors.Is(err, components.ErrUnavailable) || errors.Is(err, components.ErrDamaged)
}

// severity is how loudly an error of a component, or its end, is logged.
func severity(err error) slog.Level {
	if lasting(err) {
		return slog.LevelError
	}
	return slog.LevelWarn
}
