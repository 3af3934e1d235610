package peers_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// board is what stands in ZooKeeper, for anybody to read.
type board struct {
	t    *testing.T
	conn *zk.Conn
	addr string
}

func newBoard(t *testing.T) *board {
	t.Helper()
	s := servers.Run(t, "zookeeper")
	conn, _, err := zk.Connect(s.Addrs(), 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &board{t, conn, s.Addr()}
}

// shows waits until the providers of a folder are those addresses.
func (b *board) shows(folder string, want ...string) {
	b.t.Helper()
	harness.Eventually(b.t, 30*time.Second, func() error {
		names, _, err := b.conn.Children(folder)
		if err != nil && err != zk.ErrNoNode {
			return err
		}
		var got []string
		for _, name := range names {
			got = append(got, addressOf(name))
		}
		slices.Sort(got)
		slices.Sort(want)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("%s has %q, want %q", folder, got, want)
		}
		return nil
	})
}

// forgets takes out what is left of sessions that are not over yet.
func (b *board) forgets(folder string) {
	b.t.Helper()
	b.takesOut(folder, func(string) bool { return true })
}

// takesOut removes entries by their addresses, as an operator does by ZooKeeper's own tools.
func (b *board) takesOut(folder string, those func(at string) bool) {
	b.t.Helper()
	names, _, err := b.conn.Children(folder)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, name := range names {
		if !those(addressOf(name)) {
			continue
		}
		if err := b.conn.Delete(folder+"/"+name, -1); err != nil && err != zk.ErrNoNode {
			b.t.Fatal(err)
		}
	}
}

// addressOf reads HOST:PORT from the url that is the name of an entry.
func addressOf(name string) string {
	text, _ := url.QueryUnescape(name)
	_, rest, _ := strings.Cut(text, "://")
	at, _, _ := strings.Cut(rest, "?")
	at, _, _ = strings.Cut(at, "/")
	return at
}

// owner is the session that the only entry of a folder is of.
func (b *board) owner(folder string) int64 {
	b.t.Helper()
	names, _, err := b.conn.Children(folder)
	if err != nil || len(names) != 1 {
		b.t.Fatalf("%s has %d entries, %v", folder, len(names), err)
	}
	_, stat, err := b.conn.Exists(folder + "/" + names[0])
	if err != nil {
		b.t.Fatal(err)
	}
	return stat.EphemeralOwner
}

func (b *board) sidecar(app string, o harness.Options, mesh string) *harness.Sidecar {
	o.App = app
	o.Config = fmt.Sprintf("registry: {default: {driver: zookeeper, options: {addresses: [%q], session: 4s}}}\nmesh: {registry: default, inbound: {advertise: 127.0.0.1}%s}\ndrain: {propagation: 500ms, quiet: 200ms}\n%s",
		b.addr, mesh, o.Config)
	return harness.Start(b.t, o)
}
