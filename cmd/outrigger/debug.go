package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
)

const bundleTime = 30 * time.Second // a sidecar in trouble may be slow

// debugCommand saves a bundle in a file that only its owner reads.
func debugCommand(args []string, out, errs io.Writer) int {
	if len(args) > 0 && args[0] == "bundle" {
		args = args[1:]
	} else if len(args) == 0 || !strings.HasPrefix(args[0], "-") {
		fmt.Fprintln(errs, "outrigger debug: say what of (have bundle)")
		return exitStart
	}
	f := flagSet("debug bundle", errs)
	where := placeFlags(f)
	var port *int
	portFlag(f, "admin-port", "admin port of the sidecar on this machine", &port)
	file := f.String("out", "", "file that is written, - for standard output; outrigger-APP-TIME.tar.gz unless set")
	if code, ends := parse(f, args, 0); ends {
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), bundleTime)
	defer cancel()
	app, text, err := fetchBundle(ctx, where, port)
	if err == nil && *file == "-" {
		_, err = out.Write(text)
	} else if err == nil {
		if *file == "" {
			*file = fmt.Sprintf("outrigger-%s-%s.tar.gz", app, time.Now().UTC().Format("20060102T150405Z"))
		}
		if err = os.WriteFile(*file, text, 0o600); err == nil {
			fmt.Fprintln(out, *file)
		}
	}
	if err != nil {
		fmt.Fprintln(errs, "outrigger debug bundle:", err)
		return exitStart
	}
	return exitOK
}

func fetchBundle(ctx context.Context, where *place, port *int) (app string, text []byte, err error) {
	at, err := findAdmin(ctx, where, port)
	if err != nil {
		return "", nil, err
	}
	var info admin.Info
	if _, err := at.ask(ctx, &info); err != nil {
		return "", nil, err
	}
	h := at.client()
	defer h.CloseIdleConnections()
	code, text, err := get(ctx, h, "/debug/bundle")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%s; -app-id or -socket finds it", strings.TrimSpace(string(text)))
	}
	return info.App, text, err
}
