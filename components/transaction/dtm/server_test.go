//go:build servers

package dtm_test

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/components/transaction/dtm"
	"github.com/outrigger-mesh/outrigger/components/transaction/transactiontest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "32") // the cases wait for DTM, which counts in seconds
	goleak.VerifyTestMain(m)
}

// options are those for the DTM that the environment names by what its variables begin with.
func options(t testing.TB, server string) dtm.Options {
	t.Helper()
	defaults, ok := transaction.Drivers.Defaults("dtm")
	if !ok {
		t.Fatal("there is no driver dtm")
	}
	o := defaults.(dtm.Options)
	o.HTTP, o.Address = os.Getenv(server), os.Getenv(server+"_AT_GRPC")
	if o.HTTP == "" || o.Address == "" {
		t.Fatalf("%s is not set: go run ./integration/servers/cmd dtm dtm-postgres -- go test -tags servers ...", server)
	}
	o.Token, o.RetryInterval = "the token of the suite", time.Second
	o.Prefix = strings.ToLower(rand.Text())
	return o
}

func open(t testing.TB, o dtm.Options) transaction.Driver {
	t.Helper()
	return openMetered(t, o, nil)
}

func openMetered(t testing.TB, o dtm.Options, meter prometheus.Registerer) transaction.Driver {
	t.Helper()
	env := components.Env{Meter: meter, ID: components.ID{Capability: "transaction", Name: "default", Driver: "dtm"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	d, err := dtm.Open(context.WithoutCancel(t.Context()), env, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// balanced has all drivers of a test be called by one address, as the sidecars of an application behind a load balancer are.
func balanced(t *testing.T, server string) transactiontest.Backend {
	o, b := options(t, server), newBalancer(t)
	o.Callback = b.address()
	return transactiontest.Backend{
		Policy: transaction.Policy{Timeout: time.Minute, CallTimeout: 5 * time.Second, FirstPause: 20 * time.Millisecond, LongPause: 50 * time.Millisecond},
		Short:  1500 * time.Millisecond, Patience: 50 * time.Second,
		Open: func() transaction.Driver {
			o := o
			o.Listen = free(t)
			b.add(o.Listen)
			return open(t, o)
		},
	}
}

func TestConformance(t *testing.T) {
	for name, server := range map[string]string{"bolt": "OUTRIGGER_DTM", "postgres": "OUTRIGGER_DTM_POSTGRES"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transactiontest.Run(t, func(t *testing.T) transactiontest.Backend { return balanced(t, server) })
		})
	}
}

// TestCountsOfServers: what is open is counted, and when it has ended it is not any more.
func TestCountsOfServers(t *testing.T) {
	for name, server := range map[string]string{"bolt": "OUTRIGGER_DTM", "postgres": "OUTRIGGER_DTM_POSTGRES"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, meter := options(t, server), prometheus.NewRegistry()
			o.Listen = free(t)
			d := openMetered(t, o, meter)
			ctx, stop := context.WithCancel(context.Background())
			var over sync.WaitGroup
			over.Go(func() { _ = d.Drive(ctx, application, well) })
			defer func() { stop(); over.Wait(); componenttest.Close(t, d) }()
			counts := func(prepared float64, older bool) {
				t.Helper()
				componenttest.Eventually(t, 20*time.Second, func() error {
					got := metrics(t, meter)
					age := got["outrigger_transaction_oldest_seconds"]
					if n, told := got["PREPARED"]; n != prepared || !told || (age > 0 && age < 60) != older {
						return fmt.Errorf("counted are %v", got)
					}
					return nil
				})
			}
			counts(0, false)
			key := application + "g"
			c := transaction.Content{Kind: transaction.TCC, Policy: transaction.Policy{Timeout: time.Minute, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second}}
			if _, err := d.Begin(t.Context(), key, c); err != nil {
				t.Fatal(err)
			}
			counts(1, true)
			if _, err := d.Decide(t.Context(), key, transaction.Abort); err != nil {
				t.Fatal(err)
			}
			counts(0, false)
		})
	}
}
