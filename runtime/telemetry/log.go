package telemetry

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

// levels are the names of log levels.
var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func newLogger(info Info, format string, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(info.Output, opts)
	if format == "json" {
		h = slog.NewJSONHandler(info.Output, opts)
	}
	return slog.New(h).With("app", info.App, "namespace", info.Namespace)
}

// Level is the least level that is logged: debug, info, warn or error.
func (t *Telemetry) Level() string { return strings.ToLower(t.level.Level().String()) }

// SetLevel changes it from the next record on, for every logger derived from Logger. Empty means info; a name that is no
// level is ErrInvalid.
func (t *Telemetry) SetLevel(name string) error {
	if name == "" {
		name = "info"
	}
	level, ok := levels[name]
	if !ok {
		return fmt.Errorf("%w: %q is not a log level (have debug, info, warn, error)", components.ErrInvalid, name)
	}
	t.level.Set(level)
	return nil
}
