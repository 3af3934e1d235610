package backends_test

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// fault is something that happens to a server for as long as frozen says.
type fault struct {
	name        string
	lose, bring func() error
}

// Which server is known when it happens: node is asked once.
func stop(t *testing.T, node func() *servers.Node) fault {
	return lost(t, "stop", node, (*servers.Node).Stop)
}

func kill(t *testing.T, node func() *servers.Node) fault {
	return lost(t, "kill -9", node, (*servers.Node).Kill)
}

func lost(t *testing.T, what string, node func() *servers.Node, lose func(*servers.Node) error) fault {
	var n *servers.Node
	return fault{fmt.Sprintf("%s %s", what, frozen), func() error { n = node(); return lose(n) }, func() error { return n.Start(t.Context()) }}
}

func freeze(node func() *servers.Node) fault {
	var n *servers.Node
	return fault{fmt.Sprintf("frozen %s", frozen), func() error { n = node(); return n.Freeze() }, func() error { return n.Thaw() }}
}

// faults are all that happen to a server: it ends in order, is gone without a word, and does not answer.
func faults(t *testing.T, node func() *servers.Node) []fault {
	return []fault{stop(t, node), kill(t, node), freeze(node)}
}

// always is a node that is known before.
func always(n *servers.Node) func() *servers.Node { return func() *servers.Node { return n } }

// suffers has a fault happen, waits for its end and until all workers are served again.
func (l *load) suffers(f fault) (said func() string) {
	l.t.Helper()
	return l.during(func() {
		check(l.t, f.lose())
		time.Sleep(frozen)
		check(l.t, f.bring())
	})
}

// outlives has a fault happen to one of several servers: all workers are served again while it lasts.
func (l *load) outlives(f fault) (said func() string) {
	l.t.Helper()
	began := time.Now()
	said = l.during(func() { check(l.t, f.lose()) })
	time.Sleep(frozen - time.Since(began))
	check(l.t, f.bring())
	return said
}

// came prints what a fault came to, whose load is on those sidecars, which had so many goroutines before.
func (l *load) came(what string, said func() string, lost, before int, all ...*harness.Sidecar) {
	l.t.Helper()
	told, more := said(), settled(l.t, before, all...)
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Printf("%s: acked %d lost %d | %s | goroutines %+d\n", what, l.acked, lost, told, more)
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

// running is how many goroutines sidecars have.
func running(t *testing.T, all ...*harness.Sidecar) (n int) {
	t.Helper()
	for _, s := range all {
		m := goroutines.FindStringSubmatch(s.Page("/metrics"))
		if m == nil {
			t.Fatal("the metrics have no goroutines")
		}
		one, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		n += one
	}
	return n
}

// settled waits until sidecars have about as many goroutines as before, and answers how many more. Under load their number changes all the
// time: for a while it waits for no more than before.
func settled(t *testing.T, before int, all ...*harness.Sidecar) (more int) {
	t.Helper()
	const while = 3 * time.Second
	began := time.Now()
	harness.Eventually(t, patience, func() error {
		more = running(t, all...) - before
		if most := 8 * len(all); more > most || more > 0 && time.Since(began) < while {
			return fmt.Errorf("%d goroutines more than before", more)
		}
		return nil
	})
	return more
}
