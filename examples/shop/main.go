// Command shop is the example's four applications, and a customer of theirs. Each expects a sidecar beside it, started before or
// after it, and finds it as every user of the SDK does: by the environment.
//
//	shop orders|stock|payments|shipping [-listen HOST:PORT] [-name NAME]
//	shop buy ITEM QUANTITY
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const usage = `usage: shop orders|stock|payments|shipping [-listen HOST:PORT] [-name NAME]
       shop buy ITEM QUANTITY`

// options are the flags of all.
type options struct {
	listen string // port 0 picks one
	name   string // of a shelf of stock
	args   []string
}

var applications = map[string]func(ctx context.Context, sidecar *client.Client, o options) error{
	"orders": serveOrders, "stock": serveStock, "payments": servePayments, "shipping": serveShipping, "buy": buy,
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 || applications[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	which := os.Args[1]
	log.SetPrefix(which + ": ")
	var o options
	f := flag.NewFlagSet("shop "+which, flag.ExitOnError)
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "where to serve; port 0 picks one")
	f.StringVar(&o.name, "name", "shelf-1", "of the shelf")
	// ExitOnError: a wrong flag ends the process with 2.
	_ = f.Parse(os.Args[2:])
	o.args = f.Args()
	if err := run(which, o); err != nil {
		log.Fatal(err)
	}
}

// run waits for the sidecar and serves until a signal comes.
func run(which string, o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.Println("waiting for the sidecar, pid", os.Getpid())
	sidecar, err := client.Dial(ctx, client.WithWait())
	if ctx.Err() != nil {
		return nil // it was told to end before there was a sidecar
	}
	if err != nil {
		return err
	}
	defer sidecar.Close()
	return applications[which](ctx, sidecar, o)
}

// listen opens the port only now, when the application can serve: until then its sidecar does not announce it.
func listen(o options) (net.Listener, error) {
	ln, err := net.Listen("tcp", o.listen)
	if err != nil {
		return nil, err
	}
	log.Printf("serving on %s, pid %d", ln.Addr(), os.Getpid())
	return ln, nil
}

func portOf(ln net.Listener) int { return ln.Addr().(*net.TCPAddr).Port }
