package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const defaultAdmin = "127.0.0.1:7072"

// adminAt is where the admin pages of a sidecar are.
type adminAt struct {
	network, address string
	api              string // address of the API that was asked for, if the pages may be another sidecar's
}

// findAdmin finds the pages of the sidecar that is meant and of no other: at the port given, else beside the socket of its
// API, which may have closed already, else where its API says. Pages at the default port are taken only if no sidecar was named.
func findAdmin(ctx context.Context, where *place, port *int) (adminAt, error) {
	if port != nil {
		return adminAt{network: "tcp", address: net.JoinHostPort("127.0.0.1", strconv.Itoa(*port))}, nil
	}
	tried, err := client.Find(ctx, where.options()...)
	if err == nil {
		tried = tried[len(tried)-1:]
	}
	for _, c := range tried {
		path, unix := strings.CutPrefix(c.Address, "unix:")
		if path = strings.TrimSuffix(path, ".sock") + ".admin.sock"; unix && listens(ctx, "unix", path) {
			return adminAt{network: "unix", address: path}, nil
		}
	}
	switch {
	case err == nil:
		at := adminAt{"tcp", tried[0].Admin, tried[0].Address}
		if at.address == "" {
			return adminAt{}, at.unknown()
		}
		return at, nil
	case where.named():
		return adminAt{}, fmt.Errorf("%w; -admin-port asks a sidecar whose API does not answer", err)
	case listens(ctx, "tcp", defaultAdmin):
		return adminAt{network: "tcp", address: defaultAdmin}, nil
	}
	return adminAt{}, err
}

func listens(ctx context.Context, network, address string) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return err == nil && conn.Close() == nil
}

// named tells whether one sidecar is meant, by flags or by the environment.
func (p *place) named() bool {
	return p.addr+p.socket+p.app+os.Getenv("OUTRIGGER_SOCKET")+os.Getenv("OUTRIGGER_GRPC_ADDR")+os.Getenv("OUTRIGGER_APP_ID") != "" || p.port != nil
}

// ask reads /info and /readyz; notReady is why the sidecar is not ready.
func (a adminAt) ask(ctx context.Context, info *admin.Info) (notReady string, err error) {
	h := a.client()
	defer h.CloseIdleConnections()
	code, text, err := get(ctx, h, "/info")
	if err != nil && a.api != "" {
		return "", a.unknown()
	}
	if err != nil {
		return "", fmt.Errorf("no sidecar answers on %s: %w", a.address, err)
	}
	if code != http.StatusOK || json.Unmarshal(text, info) != nil {
		return "", fmt.Errorf("what answers on %s is not the admin address of a sidecar (HTTP %d)", a.address, code)
	}
	if a.api != "" && !a.serves(info.Ports) {
		return "", a.unknown()
	}
	code, text, err = get(ctx, h, "/readyz")
	if err == nil && code != http.StatusOK {
		notReady = strings.TrimSpace(string(text))
	}
	return notReady, err
}

func (a adminAt) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, a.network, a.address)
	}}}
}

// serves tells whether the API that was asked for is at one of a sidecar's ports. Where a port is forwarded from another
// machine, the address that its sidecar tells may be that of another sidecar here.
func (a adminAt) serves(ports map[string]int) bool {
	_, port, _ := net.SplitHostPort(a.api)
	return port == strconv.Itoa(ports["grpc"]) || port == strconv.Itoa(ports["outbound"])
}

func (a adminAt) unknown() error {
	return fmt.Errorf("the admin port of the sidecar at %s is not known: give -admin-port, or -app-id", a.api)
}

func get(ctx context.Context, h *http.Client, path string) (code int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	res, err := h.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return res.StatusCode, body, err
}
