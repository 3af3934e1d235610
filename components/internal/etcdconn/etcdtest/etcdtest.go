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
	t.Fatal("neither OUTRIGGER_ETCD_CLUSTER nor OUTRIGGER_ETCD is set: run with go run ./integration/servers/cmd etcd -- go test ...")
	return o
}

// Alone are the options of an etcd that no other test uses meanwhile: the one in OUTRIGGER_ETCD, when all others use OUTRIGGER_ETCD_CLUSTER.
func Alone(t *testing.T) etcdconn.Options {
	t.Helper()
	o := Options(t)
	if o.Addresses = strings.Split(os.Getenv("OUTRIGGER_ETCD"), ","); o.Addresses[0] == "" || os.Getenv("OUTRIGGER_ETCD_CLUSTER") == "" {
		t.Fatal("this needs OUTRIGGER_ETCD for itself, and OUTRIGGER_ETCD_CLUSTER: run with go run ./integration/servers/cmd etcd etcd-cluster -- go test ...")
	}
	return o
}

// Prefix begins keys that no other test uses.
func Prefix() string { return "test/" + rand.Text() + "/" }

// Client is the library's own, as an operator uses it.
func Client(t *testing.T, o etcdconn.Options) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: o.Addresses, Username: o.User, Password: o.Password.Reveal(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
