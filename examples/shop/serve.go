package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/outrigger-mesh/outrigger/examples/shop/orders"
	"github.com/outrigger-mesh/outrigger/examples/shop/payments"
	"github.com/outrigger-mesh/outrigger/examples/shop/shipping"
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
	return serveGRPC(ctx, ln, counter.FollowDiscount, func(r grpc.ServiceRegistrar) { shoppb.RegisterOrdersServer(r, counter) })
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
	shelf := stock.New(o.name, stock.NewOffice(sidecar))
	return serveGRPC(ctx, ln, shelf.KeepHours, func(r grpc.ServiceRegistrar) { shoppb.RegisterStockServer(r, shelf) })
}

// serveShipping serves nobody: it has nothing to listen on, and works when its sidecar has something to do.
func serveShipping(ctx context.Context, sidecar *client.Client, _ options) error {
	log.Printf("serving on no port, pid %d", os.Getpid())
	return unlessTold(ctx, shipping.Pack(ctx, sidecar))
}

// unlessTold is the error of what works until ctx ends.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func servePayments(ctx context.Context, sidecar *client.Client, o options) error {
	ln, err := listen(o)
	if err != nil {
		return err
	}
	handler := payments.New(func(ctx context.Context) ([]byte, error) {
		key, err := sidecar.Secret("bank").Get(ctx, "receipt-key")
		return key.Reveal(), err
	}, sidecar.State("till"))
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

// serveGRPC serves, and works beside it, until ctx ends or one of the two fails.
func serveGRPC(ctx context.Context, ln net.Listener, work func(context.Context) error, register func(grpc.ServiceRegistrar)) error {
	server := grpc.NewServer()
	register(server)
	told := ctx
	ctx, stop := context.WithCancel(told)
	worked := make(chan error, 1)
	go func() {
		defer stop()
		worked <- unlessTold(told, work(ctx))
	}()
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	select {
	case err := <-done:
		stop()
		return errors.Join(err, <-worked)
	case <-ctx.Done():
	}
	late := time.AfterFunc(lastWords, server.Stop) // watchers stay as long as they are let
	defer late.Stop()
	server.GracefulStop()
	return <-worked
}
