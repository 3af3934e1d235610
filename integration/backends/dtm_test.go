package backends_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// effects is what branches did of each transaction, once each, and whom it was told that all of it was.
type effects struct {
	mu    sync.Mutex
	done  map[string]map[string]bool // by gid: do-a, do-b, undo-a, undo-b
	acked map[string]bool            // by gid: that it was committed; all that were begun are there
}

func (e *effects) handle(_ context.Context, b client.Branch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	gid := b.GID[strings.LastIndexByte(b.GID, '/')+1:]
	if e.done[gid] == nil {
		e.done[gid] = map[string]bool{}
	}
	e.done[gid][b.Op+" "+b.Branch] = true
	return nil
}

func (e *effects) told(gid string, committed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.acked[gid] = committed
}

// whole tells what is wrong with a transaction that has ended so.
func (e *effects) whole(gid string, state client.TxState) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	did := e.done[gid]
	switch {
	case state == client.TxCommitted && did["action a"] && did["action b"]:
		return nil
	case state == client.TxAborted && !e.acked[gid]:
		return nil
	}
	return fmt.Errorf("%s is %s, it was told that it is committed: %v, and what was done is %v", gid, state, e.acked[gid], did)
}

// TestDTMFaults: the server is restarted, killed and frozen while sagas run.
func TestDTMFaults(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "dtm")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	l.Close()
	sidecar := harness.Start(t, harness.Options{App: "orders", Config: fmt.Sprintf(`
transaction:
  default:
    driver: dtm
    options: {address: "127.0.0.1:%d", http: %q, listen: %q, request_timeout: 1s, retry_interval: 1s, call_timeout: 2s}
`, s.Nodes[0].Ports["grpc"], s.Addr(), listen)})
	tx := sidecar.Client().Transactions("")
	book := &effects{done: map[string]map[string]bool{}, acked: map[string]bool{}}
	serving, stop := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() { _ = tx.Serve(serving, client.HandleOptions{}, nil, book.handle) })
	defer func() { stop(); served.Wait() }()

	load := newLoad(t)
	for w := range 4 {
		n := 0
		load.worker(func(ctx context.Context) error {
			n++
			gid := fmt.Sprintf("w%d-%d", w, n)
			book.told(gid, false)
			_, err := tx.Saga(ctx).GID(gid).Step("a", client.ToStream("do", nil), client.ToStream("undo", nil)).
				Step("b", client.ToStream("do", nil), client.ToStream("undo", nil)).Run()
			if err == nil {
				book.told(gid, true)
			}
			return err
		})
	}
	for _, f := range []fault{restart(t, s.Nodes[0]), kill(t, s.Nodes[0]), freeze(s.Nodes[0])} {
		told := load.during(func() { check(t, f.make()) })
		fmt.Printf("dtm %s: %s\n", f.name, told())
	}
	load.end()
	acked, absent, lost := 0, 0, 0
	for gid, committed := range book.acked {
		if committed {
			acked++
		}
		var status client.TxStatus
		harness.Eventually(t, patience, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var err error
			status, err = tx.Get(ctx, gid)
			if errors.Is(err, client.ErrNotFound) && !committed {
				status.State, err = "", nil
			}
			if err == nil && status.State != "" && status.State != client.TxCommitted && status.State != client.TxAborted {
				err = fmt.Errorf("%s is %s: %+v", gid, status.State, status.Branches)
			}
			return err
		})
		if status.State == "" { // its beginning never came to DTM
			absent++
			continue
		}
		if err := book.whole(gid, status.State); err != nil {
			lost++
			t.Error(err)
		}
	}
	fmt.Printf("dtm: of %d sagas acked %d lost %d, not begun %d\n", len(book.acked), acked, lost, absent)
}
