package backends_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

	audited map[string]bool // whose end was looked at
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

// audit asks DTM how transactions have ended that were not asked for before: those that were acknowledged, or in the end all.
func (e *effects) audit(t *testing.T, tx *client.Transactions, all bool) (acked, absent, lost int) {
	t.Helper()
	e.mu.Lock()
	told := maps.Clone(e.acked)
	e.mu.Unlock()
	for gid, committed := range told {
		if committed {
			acked++
		}
		if e.audited[gid] || !committed && !all {
			continue
		}
		e.audited[gid] = true
		state := ended(t, tx, gid, committed)
		if state == "" { // its beginning never came to DTM
			absent++
		} else if err := e.whole(gid, state); err != nil {
			lost++
			t.Error(err)
		}
	}
	return acked, absent, lost
}

// ended waits for the end of a transaction; it is empty for one that DTM does not know, unless that was acknowledged.
func ended(t *testing.T, tx *client.Transactions, gid string, committed bool) (state client.TxState) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		status, err := tx.Get(ctx, gid)
		switch state = status.State; {
		case errors.Is(err, client.ErrNotFound) && !committed:
			state, err = "", nil
		case err == nil && state != client.TxCommitted && state != client.TxAborted:
			err = fmt.Errorf("%s is %s: %+v", gid, state, status.Branches)
		}
		return err
	})
	return state
}

// TestDTMFaults: the server is stopped, killed and frozen while sagas run.
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
    options: {address: "127.0.0.1:%d", http: %q, listen: %q, request_timeout: 1s, retry_interval: 1s, call_timeout: 2s, token: %s}
`, s.Nodes[0].Ports["grpc"], s.Addr(), listen, canary)})
	tx := sidecar.Client().Transactions("")
	book := &effects{done: map[string]map[string]bool{}, acked: map[string]bool{}, audited: map[string]bool{}}
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
	load.answered(100)
	before := running(t, sidecar)
	for _, f := range faults(t, always(s.Nodes[0])) {
		said := load.suffers(f)
		_, _, lost := book.audit(t, tx, false)
		load.came("dtm "+f.name, said, lost, before, sidecar)
	}
	load.end()
	acked, absent, lost := book.audit(t, tx, true)
	for _, text := range []string{shown(t, sidecar), kept(t, sidecar.DataDir)} {
		if strings.Contains(text, canary) {
			t.Errorf("the token is shown: %s", text)
		}
	}
	fmt.Printf("dtm: of %d sagas acked %d lost %d, not begun %d\n", len(book.acked), acked, lost, absent)
}
