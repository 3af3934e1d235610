//go:build servers

package etcd_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/configtest"
	"github.com/outrigger-mesh/outrigger/components/config/etcd"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addresses(t *testing.T) []string {
	t.Helper()
	for _, name := range []string{"OUTRIGGER_ETCD", "OUTRIGGER_ETCD_CLUSTER"} {
		if all := os.Getenv(name); all != "" {
			return strings.Split(all, ",")
		}
	}
	t.Fatal("neither OUTRIGGER_ETCD nor OUTRIGGER_ETCD_CLUSTER is set")
	return nil
}

func open(t *testing.T, prefix string) config.Driver {
	t.Helper()
	o := etcd.Options{Etcd: etcdconn.Defaults(), Prefix: prefix}
	o.Etcd.Addresses = addresses(t)
	d, err := etcd.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { componenttest.Close(t, d) })
	return d
}

// operator is etcd's own client.
func operator(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: addresses(t), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func backend(t *testing.T) configtest.Backend {
	prefix := "test/" + componenttest.Caller().App + "/"
	client := operator(t)
	return configtest.Backend{Driver: open(t, prefix),
		Put: func(key, value string) {
			if _, err := client.Put(t.Context(), prefix+key, value); err != nil {
				t.Error(err)
			}
		},
		Remove: func(key string) {
			if _, err := client.Delete(t.Context(), prefix+key); err != nil {
				t.Error(err)
			}
		}}
}

func TestConformance(t *testing.T) { configtest.Run(t, backend) }

var _ = context.Background
