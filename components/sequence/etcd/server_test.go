//go:build servers

package etcd_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/etcd"
	"github.com/outrigger-mesh/outrigger/components/sequence/sequencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o etcd.Options) sequence.Driver {
	t.Helper()
	d, err := etcd.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for name, ahead := range map[string]int64{"none ahead": 0, "default": 1000} {
		t.Run(name, func(t *testing.T) {
			o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: etcdtest.Prefix(), Ahead: ahead}
			sequencetest.Run(t, func(t *testing.T) sequence.Driver { return open(t, o) })
		})
	}
}
