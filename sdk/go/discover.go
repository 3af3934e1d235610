package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Candidate is a place where a sidecar was looked for.
type Candidate struct {
	Address string // HOST:PORT or unix:PATH
	Source  string // how it was come by: "OUTRIGGER_SOCKET", "default port", ...
	App     string // NAMESPACE/APP that the sidecar says it belongs to; empty if it does not
	Admin   string // HOST:PORT of the admin pages that the sidecar says it has; empty if it does not
	Err     error  // why it was not taken; nil: a sidecar answered

	target target
	named  bool // outright, by option or environment
	never  bool // it is no address
}

// label is what namespaces and application ids look like.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// candidates lists the places to try, in order. One that has its Err already is only told of.
func (o *options) candidates(ctx context.Context) []Candidate {
	places := o.places
	if len(places) == 0 {
		if path := os.Getenv("OUTRIGGER_SOCKET"); path != "" {
			places = append(places, place{"unix:" + strings.TrimPrefix(path, "unix:"), "OUTRIGGER_SOCKET"})
		}
		if address := os.Getenv("OUTRIGGER_GRPC_ADDR"); address != "" {
			places = append(places, place{address, "OUTRIGGER_GRPC_ADDR"})
		}
	}
	if len(places) > 0 {
		all := parse(places)
		for i := range all {
			all[i].named = true
		}
		return all
	}
	return append(o.sockets(ctx), parse([]place{{o.fallbackAddress, "default port"}})...)
}

func parse(places []place) []Candidate {
	all := make([]Candidate, 0, len(places))
	for _, p := range places {
		c := Candidate{Address: p.text, Source: p.source}
		if c.target, c.Err = parseTarget(p.text); c.Err == nil {
			c.Address = c.target.String()
		}
		c.never = c.Err != nil
		all = append(all, c)
	}
	return all
}

// sockets is the application's socket, or without an application id the only one that somebody listens on.
func (o *options) sockets(ctx context.Context) []Candidate {
	if o.dataDir == "" { // what is in the working directory may be anybody's
		return []Candidate{{Address: "run", Source: "sockets of the data folder", Err: errors.New("there is no data folder: neither HOME nor OUTRIGGER_DATA_DIR is set")}}
	}
	if o.app != "" {
		return []Candidate{o.appSocket()}
	}
	namespace := o.namespace
	if namespace == "" {
		namespace = "*"
	}
	run := filepath.Join(o.dataDir, "run")
	none := Candidate{Address: run, Source: "sockets of the data folder"}
	paths, err := filepath.Glob(filepath.Join(run, namespace, "*.sock"))
	paths = slices.DeleteFunc(paths, func(p string) bool { return strings.HasSuffix(p, ".admin.sock") }) // the operators'
	if err != nil || len(paths) == 0 {
		none.Err = errors.New("no application id is set (OUTRIGGER_APP_ID), and there is no socket")
		return []Candidate{none}
	}
	var live, stale []Candidate
	for _, path := range paths {
		c := Candidate{Address: "unix:" + path, Source: "socket in the data folder", target: target{"unix", path}}
		if c.Err = listened(ctx, c.target); c.Err != nil {
			stale = append(stale, c)
		} else {
			live = append(live, c)
		}
	}
	if len(live) > 1 {
		var apps []string
		for _, c := range live {
			apps = append(apps, strings.TrimSuffix(filepath.Base(c.target.address), ".sock"))
		}
		none.Err = fmt.Errorf("there are sidecars of several applications (%s): set OUTRIGGER_APP_ID to choose one", strings.Join(apps, ", "))
		return append(stale, none)
	}
	return append(stale, live...)
}

func (o *options) appSocket() Candidate {
	namespace := o.namespace
	if namespace == "" {
		namespace = "default"
	}
	path := filepath.Join(o.dataDir, "run", namespace, o.app+".sock")
	c := Candidate{Address: "unix:" + path, Source: "socket of " + namespace + "/" + o.app, target: target{"unix", path}}
	// Anything else could lead out of the folder.
	if !label.MatchString(namespace) || !label.MatchString(o.app) {
		c.Err = fmt.Errorf("%q is not a namespace and an application id, which are DNS labels", namespace+"/"+o.app)
	}
	return c
}

func listened(ctx context.Context, t target) error {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, t.network, t.address)
	if err != nil {
		return plain(err)
	}
	return conn.Close()
}

// plain takes from an error of dialling what its reader has been told already.
func plain(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	if call := (*os.SyscallError)(nil); errors.As(err, &call) {
		err = call.Err
	}
	return err
}

func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/outrigger"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "outrigger")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "" // then there is neither a socket nor a token to find
	}
	return filepath.Join(home, ".local", "state", "outrigger")
}
