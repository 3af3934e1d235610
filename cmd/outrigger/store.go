package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/outrigger-mesh/outrigger/components/store"
	"github.com/outrigger-mesh/outrigger/runtime"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// storeActions are what can be done with the local store, by the words that they take.
var storeActions = map[string]int{"run": 0, "status": 0, "verify": 0, "compact": 0, "backup": 1, "restore": 1}

func storeCommand(args []string, out, errs io.Writer) int {
	action := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		action, args = args[0], args[1:]
	}
	words, known := storeActions[action]
	if !known {
		fmt.Fprintf(errs, "outrigger store: unknown action %q (have %s)\n", action, strings.Join(slices.Sorted(maps.Keys(storeActions)), ", "))
		return exitStart
	}
	f := flagSet("store "+action, errs)
	path := f.String("config", "", "configuration file, which may name the data folder")
	o := config.Overrides{}
	f.StringVar(&o.DataDir, "data-dir", "", "folder of the sidecars' state")
	format := outputFlag(f, "json")
	if code, ends := parse(f, args, words); ends {
		return code
	}
	if f.NArg() < words {
		fmt.Fprintf(errs, "outrigger store %s: which folder?\n", action)
		return exitStart
	}
	s, err := openStore(action, *path, o, errs)
	if err != nil {
		fmt.Fprintln(errs, "outrigger store:", err)
		return exitStart
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := storeAction(ctx, s, action, f.Arg(0), *format, out); err != nil {
		fmt.Fprintf(errs, "outrigger store %s: %v\n", action, err)
		if action == "run" {
			return exitStart
		}
		return exitFaults
	}
	return exitOK
}

func openStore(action, path string, o config.Overrides, errs io.Writer) (*store.Store, error) {
	c, err := config.Load(path, o, config.Environment{})
	if err != nil {
		return nil, err
	}
	find := runtime.FindDataDir
	if action == "run" || action == "restore" { // the others have no use for one that is not there
		find = runtime.DataDir
	}
	dir, err := find(c.DataDir)
	if err != nil {
		return nil, err
	}
	return store.Of(dir, slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn}))), nil
}

func storeAction(ctx context.Context, s *store.Store, action, folder, format string, out io.Writer) error {
	switch action {
	case "run":
		return s.Own(ctx, func(pid int) { told(out, pid) })
	case "status":
		st, err := s.Status(ctx)
		if err != nil {
			return err
		}
		if format == "json" {
			printJSON(out, st)
		} else {
			printStore(out, st)
		}
		return nil
	case "verify":
		return finished(out, "the store is whole", s.Verify(ctx))
	case "compact":
		return finished(out, "compacted", s.Compact(ctx))
	case "backup":
		return finished(out, "backed up to "+folder, s.Backup(ctx, folder))
	default:
		return finished(out, "restored from "+folder, s.Restore(ctx, folder))
	}
}

func told(out io.Writer, pid int) {
	if pid == os.Getpid() {
		fmt.Fprintf(out, "outrigger store: ready, process %d owns it\n", pid)
		return
	}
	fmt.Fprintf(out, "outrigger store: ready, process %d owns it now and this one follows\n", pid)
}

func finished(out io.Writer, what string, err error) error {
	if err == nil {
		fmt.Fprintln(out, what)
	}
	return err
}

func printStore(out io.Writer, s store.Status) {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	owner := "nobody"
	if s.PID != 0 {
		owner = fmt.Sprintf("process %d, since %s", s.PID, s.Since.Local().Format(time.DateTime))
	}
	fmt.Fprintf(t, "folder\t%s\nowner\t%s\nsize\t%.1f MiB\nfree\t%.1f MiB\n", s.Folder, owner, float64(s.Bytes)/(1<<20), float64(s.Free)/(1<<20))
	for _, name := range slices.Sorted(maps.Keys(s.Keys)) {
		fmt.Fprintf(t, "keys\t%s\t%d\n", name, s.Keys[name])
	}
	if s.Error != "" {
		fmt.Fprintf(t, "writes\t%s\n", s.Error)
	}
	t.Flush()
}
