package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/outrigger-mesh/outrigger/examples/shop/orders"
	"github.com/outrigger-mesh/outrigger/examples/shop/payments"
	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	"github.com/outrigger-mesh/outrigger/examples/shop/stock"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// lastWords is how long calls under way may take when the application is told to end.
const lastWords = 5 * time.Second

// serveOrders is announced by its sidecar's configuration: the port is the sidecar's -app-port.
func serveOrders(ctx context.Context, sidecar *client.Client, o options) error {
	ln, err := listen(o)
	if err != nil {
		return err
	}
	counter := orders.New(sidecar)
	followed := make(chan error, 1)
	go func() { followed <- counter.FollowDiscount(ctx) }()
	err = serveGRPC(ctx, ln, func(r grpc.ServiceRegistrar) { shoppb.RegisterOrdersServer(r, counter) })
	if watch := <-followed; !errors.Is(watch, context.Canceled) {
		return errors.Join(err, watch)
	}
	return err
}

// serveStock picks its port and tells the sidecar, so that two of them never clash.
func serveStock(ctx context.Context, sidecar *client.Client, o options) error {
	ln, err := listen(o)
	if err != nil {
		return err
	}
	_, err = sidecar.Registry().Publish(ctx, client.Publication{Service: client.Service{Name: "stock", Protocol: "grpc"}, Port: portOf(ln)})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	return serveGRPC(ctx, ln, func(r grpc.ServiceRegistrar) { shoppb.RegisterStockServer(r, stock.New(o.name)) })
}

func servePayments(ctx context.Context, sidecar *client.Client, o options) error {
	ln, err := listen(o)
	if err != nil {
		return err
	}
	handler := payments.New(func(ctx context.Context) ([]byte, error) {
		key, err := sidecar.Secret("bank").Get(ctx, "receipt-key")
		return key.Reveal(), err
	})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: lastWords}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	return server.Shutdown(ctx)
}

func serveGRPC(ctx context.Context, ln net.Listener, register func(grpc.ServiceRegistrar)) error {
	server := grpc.NewServer()
	register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	late := time.AfterFunc(lastWords, server.Stop) // watchers stay as long as they are let
	defer late.Stop()
	server.GracefulStop()
	return nil
}
