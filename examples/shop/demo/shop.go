package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	shopfiles "github.com/outrigger-mesh/outrigger/examples/shop/configs"
	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// shop is all that runs: sidecars, applications, and the demo's own connections to them.
type shop struct {
	bin string // folder of the two programs
	dir string // all else: configurations, settings, secrets, registry, sockets, logs
	on  drivers

	processes []*process // all that were started
	orders    *sidecar
	stock     *sidecar
	shelf2    *sidecar // of the second shelf
	payments  *sidecar
	shipping  *sidecar
	till      *sidecar

	ordersApp, paymentsApp, shelf2App *process
	ordersPort, paymentsPort          int

	customer *client.Client   // the till's sidecar
	counter  *client.Client   // the sidecar of orders, for a look into its cache and its book
	parcels  *client.Client   // the sidecar of shipping, for a look at its parcels
	clerk    *client.Client   // the sidecar of stock, for a look into its ledger
	door     *grpc.ClientConn // orders itself, as somebody from outside the mesh calls it
	sold     int64            // cents
	besides  string           // what the check that runs tells of itself, of which nothing certain is expected
	crowd    *crowd           // the customers who were there when the owner of the store ended

	// What a sabotage may change; each is right as it is made.
	misled        map[string]string // program arguments by application
	discountFile  string
	traceparent   string
	callTime      time.Duration // of a call that will take for ever
	frost         syscall.Signal
	watchTime     time.Duration
	deliveries    []int32
	meanwhile     context.CancelFunc
	meanwhileDone sync.WaitGroup
}

// openShop makes the folder; nothing runs yet.
func openShop(bin string, on drivers) (*shop, error) {
	dir, err := os.MkdirTemp("", "shop-") // short: paths of sockets must be
	if err != nil {
		return nil, err
	}
	s := &shop{bin: bin, dir: dir, on: on, misled: map[string]string{}, discountFile: "settings/shop/discount",
		traceparent: "00-5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a-1b1b1b1b1b1b1b1b-00", callTime: 500 * time.Millisecond, frost: syscall.SIGSTOP, watchTime: patience, deliveries: []int32{20, 20, 20, 20, 20}}
	err = errors.Join(s.write("secrets/receipt-key", receiptKey), os.MkdirAll(s.path("log"), 0o700))
	names, _ := fs.Glob(shopfiles.FS, "*.yaml")
	for _, name := range names {
		text, e := shopfiles.FS.ReadFile(name)
		err = errors.Join(err, e, s.write(name, on.in(name, string(text))))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

const receiptKey = "between the shop and its bank"

func (s *shop) path(name string) string { return filepath.Join(s.dir, name) }

// write puts a file into the shop's folder, whole or not at all: what watches it never sees half of it.
func (s *shop) write(name, text string) error {
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	fresh := filepath.Join(filepath.Dir(path), ".fresh")
	if err := os.WriteFile(fresh, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// edit changes words of a configuration.
func (s *shop) edit(config, words, into string) error {
	text, err := os.ReadFile(s.path(config))
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), words) {
		return fmt.Errorf("%s has no %q", config, words)
	}
	return s.write(config, strings.Replace(string(text), words, into, 1))
}

// run starts a process that close will end.
func (s *shop) run(name string, env []string, program string, args ...string) (*process, error) {
	log := s.path(fmt.Sprintf("log/%02d-%s.log", len(s.processes), strings.ReplaceAll(name, " ", "-")))
	p, err := start(name, log, slices.Concat(s.environment(), env), filepath.Join(s.bin, program), args...)
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return p, err
}

// environment is the demo's own, without what would lead to another sidecar.
func (s *shop) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "OUTRIGGER_") && !slices.Contains(s.on.variables, name)
	})
	return append(env, "SHOP_DIR="+s.dir)
}

// dataDir is shared by all sidecars, and so is the store in it.
const dataDir = "d"

// socket is where a sidecar serves its application.
func (s *shop) socket(title string) string { return s.path(dataDir + "/run/shop/" + title + ".sock") }

// app starts an application by itself. It finds its sidecar by the data folder and its id, or by the socket where there is another
// sidecar with that id.
func (s *shop) app(title, name string, args ...string) (*process, error) {
	env := []string{"OUTRIGGER_APP_ID=" + name, "OUTRIGGER_APP_NAMESPACE=shop", "OUTRIGGER_DATA_DIR=" + s.path(dataDir)}
	if title != name {
		env = []string{"OUTRIGGER_SOCKET=" + s.socket(title)}
	}
	return s.run(title+" app", env, "shop", append([]string{name}, args...)...)
}

// meet connects the demo to a sidecar.
func (s *shop) meet(ctx context.Context, c *sidecar) (*client.Client, error) {
	return client.Dial(ctx, client.WithSocket(c.socket), client.WithWait())
}

// front is a connection to orders itself.
func (s *shop) front() (shoppb.OrdersClient, error) {
	if s.door == nil {
		conn, err := grpc.NewClient(address(s.ordersPort), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		s.door = conn
	}
	return shoppb.NewOrdersClient(s.door), nil
}

// during has f done again and again until the check has ended, and returns when it was done once.
func (s *shop) during(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	s.meanwhile = cancel
	if err := f(ctx); err != nil {
		return err
	}
	s.meanwhileDone.Go(func() {
		for ctx.Err() == nil {
			if f(ctx) != nil && pause(ctx) != nil {
				return
			}
		}
	})
	return nil
}

func (s *shop) endMeanwhile() {
	if s.meanwhile != nil {
		s.meanwhile()
		s.meanwhileDone.Wait()
		s.meanwhile = nil
	}
}

// closeDoors ends the demo's own connections.
func (s *shop) closeDoors() {
	for _, c := range []*client.Client{s.customer, s.counter, s.parcels, s.clerk} {
		if c != nil {
			_ = c.Close() // it can be closed more than once
		}
	}
	if s.door != nil {
		_ = s.door.Close()
	}
}

// close ends all that still runs and removes the folder. In a hurry nobody is asked to end: they are ended.
func (s *shop) close(hurry bool) error {
	s.endMeanwhile()
	s.closeDoors()
	var all sync.WaitGroup
	for _, p := range s.processes {
		if hurry {
			p.kill()
			continue
		}
		all.Go(func() { p.stop(context.Background(), 10*time.Second) })
	}
	all.Wait()
	return os.RemoveAll(s.dir)
}

// freePort is one that nobody listens on now.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", address(0))
	if err != nil {
		return 0, err
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close()
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
