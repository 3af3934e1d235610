// Package etcdtest is where tests of drivers find the etcd that was started for them.
package etcdtest

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
)

// Options are those of the etcd in OUTRIGGER_ETCD_CLUSTER, or OUTRIGGER_ETCD. Without one of them the test fails.
func Options(t *testing.T) etcdconn.Options {
	t.Helper()
	o := etcdconn.Defaults()
	for _, name := range []string{"OUTRIGGER_ETCD_CLUSTER", "OUTRIGGER_ETCD"} {
		if all := os.Getenv(name); all != "" {
			o.Addresses = strings.Split(all, ",")
			return o
		}
	}
	t.Fatal("neither OUTRIGGER_ETCD nor OUTRIGGER_ETCD_CLUSTER is set")
	return o
}

// Prefix begins keys that no other test uses.
func Prefix() string { return "test/" + rand.Text() + "/" }

// Client is the library's own, on all members, as an operator uses it.
func Client(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: Options(t).Addresses, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
