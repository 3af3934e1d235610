//go:build servers

package dtm_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmgrpc/dtmgpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// gate is the way to DTM's HTTP interface. What it answers about a transaction can be held: whoever asked goes on with what was so then.
type gate struct {
	mu            sync.Mutex
	reached, free chan struct{} // nil: nothing is held
}

func newGate(t *testing.T, to string) (g *gate, address string) {
	g = &gate{}
	proxy := &httputil.ReverseProxy{Director: func(r *http.Request) { r.URL.Scheme, r.URL.Host = "http", to }, ModifyResponse: func(answer *http.Response) error {
		g.mu.Lock()
		reached, free := g.reached, g.free
		if strings.HasSuffix(answer.Request.URL.Path, "/query") {
			g.reached, g.free = nil, nil
		} else {
			reached = nil
		}
		g.mu.Unlock()
		if reached != nil {
			close(reached)
			<-free
		}
		return nil
	}}
	s := httptest.NewServer(proxy)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return g, strings.TrimPrefix(s.URL, "http://")
}

// decides has a driver decide from what it reads now, as soon as goOn is called.
func (g *gate) decides(t *testing.T, d transaction.Driver, key string, what transaction.Decision) (goOn func() error) {
	reached, free := make(chan struct{}), make(chan struct{})
	g.mu.Lock()
	g.reached, g.free = reached, free
	g.mu.Unlock()
	told := make(chan error, 1)
	go func() { _, err := d.Decide(t.Context(), key, what); told <- err }()
	<-reached
	return func() error { close(free); return <-told }
}

// couple are two sidecars of an application, whose branches DTM calls at either.
type couple struct {
	drivers [2]transaction.Driver
	gates   [2]*gate

	mu    sync.Mutex
	away  bool // no branch answers
	calls []string

	prefix string
}

func newCouple(t *testing.T, server string) *couple {
	o, b := options(t, server), newBalancer(t)
	c := &couple{away: true, prefix: o.Prefix}
	o.Callback = b.address()
	web := o.HTTP
	for i := range c.drivers {
		o.Listen = free(t)
		b.add(o.Listen)
		c.gates[i], o.HTTP = newGate(t, web)
		d := open(t, o)
		c.drivers[i] = d
		ctx, stop := context.WithCancel(context.Background())
		var over sync.WaitGroup
		over.Go(func() { _ = d.Drive(ctx, application, c.call) })
		t.Cleanup(func() { stop(); over.Wait(); componenttest.Close(t, d) })
	}
	return c
}

func (c *couple) call(_ context.Context, in *transaction.Call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		c.calls = append(c.calls, in.Op+" in vain")
		return errors.New("away")
	}
	c.calls = append(c.calls, in.Op+" "+in.Branch)
	return nil
}

func (c *couple) calledInVain() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.calls, "confirm in vain") {
		return fmt.Errorf("called are %q", c.calls)
	}
	return nil
}

// begin begins a TCC whose two branches were tried.
func (c *couple) begin(t *testing.T, timeout time.Duration) (key string) {
	t.Helper()
	key = application + "g"
	policy := transaction.Policy{Timeout: timeout, CallTimeout: 5 * time.Second, FirstPause: 20 * time.Millisecond, LongPause: 50 * time.Millisecond}
	_, err := c.drivers[0].Begin(t.Context(), key, transaction.Content{Kind: transaction.TCC, Policy: policy})
	to := func(method string) transaction.Target { return transaction.Target{Service: "stock", Method: method} }
	for _, b := range []transaction.Branch{{ID: "1", Do: to("do"), Confirm: to("confirm"), Undo: to("cancel")}, {ID: "2", Do: to("do"), Confirm: to("confirm")}} {
		err = errors.Join(err, c.drivers[0].Register(t.Context(), key, b), c.drivers[0].Tried(t.Context(), key, b.ID))
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ends has branches answer, by which what was committed has to come to its end.
func (c *couple) ends(t *testing.T, key string) {
	t.Helper()
	c.mu.Lock()
	c.away = false
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	if info, err := c.drivers[1].Wait(ctx, key); err != nil || info.State != transaction.Committed {
		t.Errorf("it ends %+v, %v", info, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, want := range []string{"confirm 1", "confirm 2"} {
		if !slices.Contains(c.calls, want) {
			t.Errorf("there is no %s among %q", want, c.calls)
		}
	}
	if slices.ContainsFunc(c.calls, func(call string) bool { return strings.HasPrefix(call, transaction.OpCancel) }) {
		t.Errorf("of one that was committed is called %q", c.calls)
	}
}

// TestAClaimAlone: a TCC whose committer dies between the two things that it tells DTM commits when its deadline is over, and cannot be aborted.
func TestAClaimAlone(t *testing.T) {
	for store, server := range map[string]string{"bolt": "OUTRIGGER_DTM", "postgres": "OUTRIGGER_DTM_POSTGRES"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			c := newCouple(t, server)
			key := c.begin(t, 2*time.Second)
			conn, err := grpc.NewClient("passthrough:///"+os.Getenv(server+"_AT_GRPC"), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := dtmgpb.NewDtmClient(conn).RegisterBranch(t.Context(), &dtmgpb.DtmBranchRequest{Gid: c.prefix + ":" + key + "/", TransType: "workflow",
				BranchID: "/claim", Data: map[string]string{"op": "claim", "status": "succeed", "sync": "1"}}); err != nil {
				t.Fatal(err)
			}
			if info, err := c.drivers[0].Decide(t.Context(), key, transaction.Abort); !errors.Is(err, components.ErrPrecondition) || info.State != transaction.Committing {
				t.Errorf("an abort is told %+v, %v", info, err)
			}
			c.ends(t, key)
		})
	}
}

// TestTwoCommits: a TCC is confirmed to its end whoever else commits or aborts it at the same time, having seen it open.
func TestTwoCommits(t *testing.T) {
	for store, server := range map[string]string{"bolt": "OUTRIGGER_DTM", "postgres": "OUTRIGGER_DTM_POSTGRES"} {
		for name, test := range map[string]struct {
			first, second int // the driver that decides first, and the one that decides on what it saw before that; 0 has begun it
			late          transaction.Decision
			refused       error
		}{
			"another sidecar's commit late": {0, 1, transaction.Commit, nil},
			"its own commit late":           {1, 0, transaction.Commit, nil},
			"two others' commits":           {1, 1, transaction.Commit, nil},
			"its own twice":                 {0, 0, transaction.Commit, nil},
			"another sidecar's abort late":  {0, 1, transaction.Abort, components.ErrPrecondition},
			"its own abort late":            {1, 0, transaction.Abort, components.ErrPrecondition},
		} {
			t.Run(store+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := newCouple(t, server)
				key := c.begin(t, time.Minute)
				goOn := c.gates[test.second].decides(t, c.drivers[test.second], key, test.late)
				if info, err := c.drivers[test.first].Decide(t.Context(), key, transaction.Commit); err != nil || info.State != transaction.Committing {
					t.Fatalf("the first commit: %+v, %v", info, err)
				}
				componenttest.Eventually(t, 20*time.Second, c.calledInVain)
				if err := goOn(); !errors.Is(err, test.refused) {
					t.Fatalf("the second one is told %v, want %v", err, test.refused)
				}
				if info, err := c.drivers[1].Get(t.Context(), key); err != nil || info.State != transaction.Committing || len(info.Branches) != 2 || info.Branches[0].Done {
					t.Fatalf("before a confirm was OK it is %+v, %v", info, err)
				}
				c.ends(t, key)
				listed, _, err := c.drivers[1].List(t.Context(), transaction.Query{Application: application, States: []transaction.State{transaction.Committed}, Limit: 1})
				if err != nil || len(listed) != 1 {
					t.Errorf("listed are %+v, %v", listed, err)
				}
			})
		}
	}
}
