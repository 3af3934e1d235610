package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// TCPInbound lets connections of TCP in that other sidecars have begun, and joins them to the application's. Each counts as one call at the
// gate. Set its fields.
type TCPInbound struct {
	Gate    mesh.Inbound
	Monitor Monitor
	App     components.Caller
	// Port is where the application serves a service by TCP; false if it does not.
	Port func(service string) (port int, ok bool)

	tunnels
}

// Protocol is what it serves on a port of several.
func (i *TCPInbound) Protocol() Protocol { return Protocol{Name: mesh.TCP, Match: TCP, Serve: i.serve} }

func (i *TCPInbound) serve(nc net.Conn, head []byte) {
	if !i.begin(nc) {
		nc.Close()
		return
	}
	defer i.end(nc)
	nc.SetDeadline(time.Now().Add(helloTime))
	line, err := readLine(io.MultiReader(bytes.NewReader(head), nc))
	if err != nil {
		return
	}
	c := &call{Record: Record{Direction: "inbound", Protocol: mesh.TCP, Rule: "default", Start: time.Now()}}
	app, err := i.admit(c, line, nc)
	if err != nil {
		reason, text := reasonOf(err)
		text = strings.ReplaceAll(text, "\n", " ")
		fmt.Fprintf(nc, "%c%s %s\n", tcpRefused, reason, text[:min(len(text), tcpLine/2)])
	} else if _, err = nc.Write([]byte{tcpTaken}); err != nil {
		app.Close()
	} else {
		nc.SetDeadline(time.Time{})
		c.Sent, c.Received, err = join(nc, app)
		if c.Code = 0; err != nil {
			c.Flag, c.Code = grpcproxy.FlagClosed, 14
		}
	}
	c.Duration = time.Since(c.Start)
	if c.admitted {
		i.Gate.Leave()
	}
	i.Monitor.End(&c.Record)
}

// admit reads what a connection is for and connects to the application.
func (i *TCPInbound) admit(c *call, line string, nc net.Conn) (net.Conn, error) {
	name, source, hops, ok := parseBegin(line)
	if ok {
		c.Service, ok = ParseService(name, i.App.Namespace)
	}
	c.Service.Protocol, c.Source = mesh.TCP, source
	peer, known := PeerOf(nc)
	if known { // by its certificate
		c.Source = peer.String()
	}
	i.Monitor.Begin(&c.Record)
	c.Flag, c.Code = grpcproxy.FlagNoRoute, 14
	port := 0
	if ok && c.Service.Namespace == i.App.Namespace {
		port, ok = i.Port(c.Service.Name)
	} else {
		ok = false
	}
	if !ok {
		c.Code = 5
		return nil, components.WithReason(fmt.Errorf("%w: %s is not served by the application here, %s, over tcp: publish it, or name it in app.services",
			components.ErrNotFound, c.Service, i.App), mesh.ReasonNotForThisApp)
	}
	if err := i.Gate.Admit(&mesh.Request{Protocol: mesh.TCP, Service: c.Service, Source: peer, Hops: hops, Header: noHeader}); err != nil {
		c.Flag, c.Code = grpcproxy.FlagLimited, 8
		return nil, err
	}
	c.admitted, c.Attempts = true, 1
	c.Upstream = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	app, err := net.DialTimeout("tcp", c.Upstream, tcpApp)
	if err != nil {
		c.Flag = grpcproxy.FlagConnectFailed
		return nil, components.WithReason(fmt.Errorf("%w: cannot connect to %s: %w", components.ErrUnavailable, c.Upstream, err), grpcproxy.ReasonConnectFailed)
	}
	c.Flag = ""
	return app, nil
}

func noHeader(string) string { return "" }

func parseBegin(line string) (service, source string, hops int, ok bool) {
	rest, ok := strings.CutPrefix(line, tcpBegin)
	parts := strings.Split(rest, " ")
	if !ok || len(parts) != 3 {
		return "", "", 0, false
	}
	hops, err := strconv.Atoi(parts[2])
	return parts[0], parts[1], hops, err == nil && hops >= 0
}

// errRefused is what a peer's sidecar has answered.
type errRefused struct {
	reason components.Reason
	text   string
}

func (e *errRefused) Error() string { return fmt.Sprintf("%s: %s", e.reason, e.text) }

// unreached tells whether a refusal is that of a sidecar whose application cannot be reached, or does not serve what it is asked for.
func (e *errRefused) unreached() bool {
	return e.reason == grpcproxy.ReasonConnectFailed || e.reason == mesh.ReasonNotForThisApp
}

// readTaken waits until a peer has said that its application is connected.
func readTaken(nc net.Conn) error {
	var one [1]byte
	if _, err := io.ReadFull(nc, one[:]); err != nil {
		return err
	}
	switch one[0] {
	case tcpTaken:
		return nil
	case tcpRefused:
		line, err := readLine(nc)
		if err != nil {
			return err
		}
		reason, text, _ := strings.Cut(line, " ")
		return &errRefused{components.Reason(reason), text}
	}
	return errors.New("what answers is no sidecar that knows of TCP")
}
