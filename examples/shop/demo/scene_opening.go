package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// opening starts everything. All other scenes need it.
var opening = scene{"The shop opens", []check{
	{"sidecar-before-app", "payments: the sidecar starts first, and is ready when its application is", sidecarFirst, func(_ context.Context, s *shop) error {
		s.misled["payments"] = "127.0.0.1:0" // it listens elsewhere
		return nil
	}},
	{"app-before-sidecar", "orders: the application starts first, and serves when its sidecar is there", appFirst, func(_ context.Context, s *shop) error {
		return s.edit("orders.yaml", "id: orders", "id: ordres") // the sidecar is another application's
	}},
	{"app-beside-sidecar", "stock and shipping: the sidecar starts its application (outrigger run ... -- shop stock)", appBeside, func(_ context.Context, s *shop) error {
		s.misled["stock"] = "nowhere" // it cannot listen there, and ends
		return nil
	}},
	{"sidecars-ready", "five sidecars are ready, each asked at its admin port", allReady, func(ctx context.Context, s *shop) error {
		s.paymentsApp.stop(ctx, time.Second)
		_, err := s.payments.ready(ctx, http.StatusServiceUnavailable)
		return err
	}},
	{"services-published", "services are announced at their SIDECARS, and callers are sent to their own", published, func(ctx context.Context, s *shop) error {
		// The application's own port is announced: callers would go past the sidecar.
		err := s.edit("payments.yaml", "registry: street}", fmt.Sprintf("registry: street, inbound: {advertise: %q}}", address(s.paymentsPort)))
		if err != nil {
			return err
		}
		return s.payments.restart(ctx)
	}},
}}

// listening are the arguments of an application that serves on a port, if it is not misled.
func (s *shop) listening(app string, port int) []string {
	if wrong := s.misled[app]; wrong != "" {
		return []string{"-listen", wrong}
	}
	return []string{"-listen", address(port)}
}

func sidecarFirst(ctx context.Context, s *shop) (expected, seen string, err error) {
	if s.paymentsPort, err = freePort(); err != nil {
		return "", "", err
	}
	expected = fmt.Sprintf("alone: not ready: the application does not answer on port %d; with it: ready", s.paymentsPort)
	s.payments = s.newSidecar("payments", "payments", fmt.Sprintf("-app-port=%d", s.paymentsPort))
	if err := s.payments.start(ctx); err != nil {
		return expected, "", err
	}
	why, err := s.payments.ready(ctx, http.StatusServiceUnavailable)
	if err != nil {
		return expected, "", err
	}
	if s.paymentsApp, err = s.app("payments", "payments", s.listening("payments", s.paymentsPort)...); err != nil {
		return expected, "", err
	}
	if _, err := s.payments.ready(ctx, http.StatusOK); err != nil {
		return expected, "alone: " + why, err
	}
	return expected, "alone: " + why + "; with it: ready", nil
}

func appFirst(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "alone: it waits for the sidecar; with it: it serves"
	if s.ordersPort, err = freePort(); err != nil {
		return expected, "", err
	}
	if s.ordersApp, err = s.app("orders", "orders", s.listening("orders", s.ordersPort)...); err != nil {
		return expected, "", err
	}
	if _, err := s.ordersApp.line(ctx, "orders: waiting for the sidecar"); err != nil {
		return expected, "", err
	}
	seen = "alone: it waits for the sidecar"
	if nc, err := net.Dial("tcp", address(s.ordersPort)); err == nil {
		return expected, seen + ", and serves", nc.Close()
	}
	s.orders = s.newSidecar("orders", "orders", fmt.Sprintf("-app-port=%d", s.ordersPort))
	if err := s.orders.start(ctx); err != nil {
		return expected, seen, err
	}
	if _, err := s.ordersApp.line(ctx, "orders: serving on"); err != nil {
		return expected, seen, err
	}
	s.counter, err = s.meet(ctx, s.orders)
	return expected, seen + "; with it: it serves", err
}

func appBeside(ctx context.Context, s *shop) (expected, seen string, err error) {
	s.stock = s.newSidecar("stock", "stock", append([]string{"--", s.bin + "/shop", "stock"}, s.listening("stock", 0)...)...)
	s.shipping = s.newSidecar("shipping", "shipping", "--", s.bin+"/shop", "shipping")
	expected = "stock runs and has picked a port; shipping runs and needs none"
	if err := s.stock.start(ctx); err != nil {
		return expected, "", err
	}
	if _, err := s.stock.line(ctx, "stock: serving on 127.0.0.1:"); err != nil {
		return expected, "", err
	}
	if s.clerk, err = s.meet(ctx, s.stock); err != nil {
		return expected, "", err
	}
	seen = "stock runs and has picked a port"
	if err := s.shipping.start(ctx); err != nil {
		return expected, seen, err
	}
	if _, err := s.shipping.line(ctx, "shipping: serving on no port"); err != nil {
		return expected, seen, err
	}
	s.parcels, err = s.meet(ctx, s.shipping)
	return expected, seen + "; shipping runs and needs none", err
}

func allReady(ctx context.Context, s *shop) (expected, seen string, err error) {
	s.till = s.newSidecar("till", "till")
	if err := s.till.start(ctx); err != nil {
		return "a sidecar for the till", "", err
	}
	if s.customer, err = s.meet(ctx, s.till); err != nil {
		return "a sidecar for the till", "", err
	}
	for _, c := range []*sidecar{s.orders, s.stock, s.payments, s.shipping, s.till} {
		expected += c.app + " 200, "
		status, text, err := c.get(ctx, "/readyz")
		for err == nil && status != http.StatusOK && pause(ctx) == nil {
			status, text, err = c.get(ctx, "/readyz")
		}
		if err != nil {
			return expected, seen, err
		}
		seen += fmt.Sprintf("%s %d, ", c.app, status)
		if status != http.StatusOK {
			seen += text
		}
	}
	return strings.TrimSuffix(expected, ", "), strings.TrimSuffix(seen, ", "), nil
}

func published(ctx context.Context, s *shop) (expected, seen string, err error) {
	for _, c := range []*sidecar{s.orders, s.stock, s.payments} {
		expected += fmt.Sprintf("%s at %s; ", c.app, c.ports["inbound"])
	}
	expected += "calls go to the till's sidecar"
	for _, c := range []*sidecar{s.orders, s.stock, s.payments} {
		r, err := s.find(ctx, c.app)
		if err != nil {
			return expected, seen, err
		}
		seen += fmt.Sprintf("%s at %s; ", c.app, r.Instances[0].Address)
		if r.Address != s.till.ports["outbound"] {
			seen += "the till is sent to " + r.Address
		}
	}
	return expected, seen + "calls go to the till's sidecar", nil
}

// find asks the till's sidecar where a service is, until there is one.
func (s *shop) find(ctx context.Context, name string) (client.Resolution, error) {
	service := client.Service{Name: name, Protocol: "grpc"}
	if name == "payments" {
		service.Protocol = "http"
	}
	for {
		r, err := s.customer.Registry().Resolve(ctx, service)
		if err == nil {
			return r, nil
		}
		if pause(ctx) != nil {
			return r, err
		}
	}
}
