package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const defaultAdmin = "127.0.0.1:7072"

func statusCommand(args []string, out, errs io.Writer) int {
	f := flagSet("status", errs)
	where := placeFlags(f)
	var port *int
	portFlag(f, "admin-port", "admin port of the sidecar on this machine", &port)
	format := outputFlag(f)
	if code, ends := parse(f, args); ends {
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	network, address := "tcp", defaultAdmin
	if port != nil {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(*port))
	} else if found := adminSocket(ctx, where); found != "" {
		network, address = "unix", found
	}
	var info admin.Info
	ready, err := ask(ctx, network, address, &info)
	if err != nil {
		fmt.Fprintf(errs, "outrigger status: no sidecar answers on %s: %v\n", address, err)
		return exitStart
	}
	if *format == "json" {
		printJSON(out, info)
	} else {
		printInfo(out, info, ready)
	}
	if ready != "" {
		return exitFaults
	}
	return exitOK
}

// adminSocket stands beside the socket of the API.
func adminSocket(ctx context.Context, where *place) string {
	tried, err := client.Find(ctx, where.options()...)
	if err != nil {
		return ""
	}
	path, unix := strings.CutPrefix(tried[len(tried)-1].Address, "unix:")
	if !unix {
		return ""
	}
	return strings.TrimSuffix(path, ".sock") + ".admin.sock"
}

// ask reads /info and /readyz; the second answer is why the sidecar is not ready.
func ask(ctx context.Context, network, address string, info *admin.Info) (notReady string, err error) {
	h := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}}
	defer h.CloseIdleConnections()
	get := func(path string) (int, []byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
		if err != nil {
			return 0, nil, err
		}
		res, err := h.Do(req)
		if err != nil {
			return 0, nil, err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		return res.StatusCode, text, err
	}
	_, text, err := get("/info")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(text, info); err != nil {
		return "", err
	}
	code, text, err := get("/readyz")
	if err == nil && code != http.StatusOK {
		notReady = strings.TrimSpace(string(text))
	}
	return notReady, err
}

func printInfo(out io.Writer, i admin.Info, notReady string) {
	state := "ready"
	if notReady != "" {
		state = notReady
	}
	fmt.Fprintf(out, "%s: %s\nversion %s, configuration %d", i.App, state, i.Version, i.Config.Generation)
	if i.Config.LastError != "" {
		fmt.Fprintf(out, "; the last reload failed: %s", i.Config.LastError)
	}
	fmt.Fprintf(out, "\nannounced as %s\n", i.Advertise)
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(i.Ports)) {
		fmt.Fprintf(t, "port\t%s\t%d\n", name, i.Ports[name])
	}
	for _, c := range i.Components {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.Capability, c.Name, c.Driver, c.State, c.Error)
	}
	for _, s := range i.Services {
		fmt.Fprintf(t, "service\t%s\t%d instances\n", s.Name, s.Instances)
	}
	t.Flush()
}
