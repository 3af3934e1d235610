package dtm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmgrpc/dtmgpb"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	"github.com/outrigger-mesh/outrigger/components/transaction/dtm"
)

// fake keeps what it is told. The test plays the rest of DTM's part: it calls branches.
type fake struct {
	dtmgpb.UnimplementedDtmServer
	web  *httptest.Server
	addr string

	mu    sync.Mutex
	told  []*dtmgpb.DtmRequest
	kept  map[string]string // the states of what is stored
	lists int               // how often a list of a state was asked for
	full  bool              // nothing is stored any more, and that is not said
	held  chan struct{}     // not nil: nothing is answered before it is closed
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{kept: map[string]string{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	server := grpc.NewServer()
	dtmgpb.RegisterDtmServer(server, f)
	go func() { _ = server.Serve(l) }()
	f.web = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(func() { server.Stop(); f.web.Close() })
	return f
}

func (f *fake) wait() {
	f.mu.Lock()
	held := f.held
	f.mu.Unlock()
	if held != nil {
		<-held
	}
}

func (f *fake) NewGid(context.Context, *emptypb.Empty) (*dtmgpb.DtmGidReply, error) {
	f.wait()
	return &dtmgpb.DtmGidReply{}, nil
}

func (f *fake) Submit(_ context.Context, r *dtmgpb.DtmRequest) (*emptypb.Empty, error) {
	f.wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep(r, "submitted")
	return &emptypb.Empty{}, nil
}

func (f *fake) Prepare(_ context.Context, r *dtmgpb.DtmRequest) (*emptypb.Empty, error) {
	f.wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep(r, "prepared")
	return &emptypb.Empty{}, nil
}

func (f *fake) keep(r *dtmgpb.DtmRequest, state string) {
	f.told = append(f.told, r)
	if !f.full {
		f.kept[r.Gid] = state
	}
}

func (f *fake) find(gid string) *dtmgpb.DtmRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.told {
		if r.Gid == gid {
			return r
		}
	}
	return nil
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.wait()
	there := f.find(r.URL.Query().Get("gid"))
	f.mu.Lock()
	state := f.kept[there.GetGid()]
	f.mu.Unlock()
	answer := map[string]any{"version": "fake"}
	if state != "" {
		row := row(there, state)
		answer["transaction"], answer["transactions"], answer["branches"] = row, []any{row}, deliveries(there)
	}
	if status := r.URL.Query().Get("status"); status != "" {
		answer["transactions"] = f.list(status)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func row(r *dtmgpb.DtmRequest, state string) map[string]any {
	return map[string]any{"gid": r.Gid, "trans_type": r.TransType, "status": state, "custom_data": r.CustomedData, "create_time": time.Now().Add(-time.Minute)}
}

// deliveries are what DTM keeps of a message's steps.
func deliveries(r *dtmgpb.DtmRequest) (all []any) {
	var steps []map[string]string
	if r.TransType != "msg" || json.Unmarshal([]byte(r.Steps), &steps) != nil {
		return nil
	}
	for i, step := range steps {
		all = append(all, map[string]any{"branch_id": fmt.Sprintf("%02d", i+1), "op": "action", "status": "prepared", "url": step["action"], "bin_data": r.BinPayloads[i]})
	}
	return all
}

// list is what there is of a state. Each time that it is asked for is counted.
func (f *fake) list(state string) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	all := []any{}
	for _, r := range f.told {
		if f.kept[r.Gid] == state {
			all = append(all, row(r, state))
		}
	}
	return all
}

// rig is a driver at a fake, that drives.
type rig struct {
	*testing.T
	*fake
	driver transaction.Driver
	listen string
	meter  *prometheus.Registry
	log    lines

	mu    sync.Mutex
	calls []transaction.Call
}

// lines is a log. Safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text []byte
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, line...)
	return len(line), nil
}

// states are those that were logged of a transaction.
func (l *lines) states(gid string) (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range regexp.MustCompile(`msg=transaction .*gid=`+gid+` state=(\w+)`).FindAllSubmatch(l.text, -1) {
		all = append(all, string(m[1]))
	}
	return all
}

const application = "shop/orders/"

func newRig(t *testing.T, answer func(ctx context.Context, c *transaction.Call) error) *rig {
	t.Helper()
	r := &rig{T: t, fake: newFake(t), listen: free(t), meter: prometheus.NewRegistry()}
	of := env(t)
	of.Meter, of.Logger = r.meter, slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), &r.log), nil))
	d, err := dtm.Open(t.Context(), of, r.options())
	if err != nil {
		t.Fatal(err)
	}
	r.driver = d
	ctx, stop := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() {
		_ = d.Drive(ctx, application, func(ctx context.Context, c *transaction.Call) error {
			r.mu.Lock()
			r.calls = append(r.calls, *c)
			r.mu.Unlock()
			return answer(ctx, c)
		})
	})
	t.Cleanup(func() { stop(); over.Wait(); componenttest.Close(t, d) })
	componenttest.Eventually(t, 10*time.Second, func() error {
		c, err := net.Dial("tcp", r.listen)
		if err == nil {
			c.Close()
		}
		return err
	})
	return r
}

func env(t *testing.T) components.Env {
	return components.Env{ID: components.ID{Capability: "transaction", Name: "default", Driver: "dtm"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		DataDir: t.TempDir()}
}

func (r *rig) options() dtm.Options {
	defaults, _ := transaction.Drivers.Defaults("dtm")
	o := defaults.(dtm.Options)
	o.Address, o.HTTP, o.Listen, o.RequestTimeout = r.addr, strings.TrimPrefix(r.web.URL, "http://"), r.listen, time.Second
	return o
}

// saga begins one of some steps and answers how DTM was told.
func (r *rig) saga(key string, steps ...string) *dtmgpb.DtmRequest {
	r.Helper()
	c := transaction.Content{Kind: transaction.Saga, Policy: transaction.Policy{Timeout: time.Minute, CallTimeout: 10 * time.Second, FirstPause: time.Hour,
		LongPause: time.Hour}}
	for _, id := range steps {
		c.Branches = append(c.Branches, transaction.Branch{ID: id, Do: transaction.Target{Service: "stock", Method: "do"},
			Undo: transaction.Target{Service: "stock", Method: "undo"}})
	}
	if _, err := r.driver.Begin(r.Context(), key, c); err != nil {
		r.Fatal(err)
	}
	r.fake.mu.Lock()
	defer r.fake.mu.Unlock()
	return r.told[len(r.told)-1]
}

type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)         { return v.([]byte), nil }
func (bytesCodec) Unmarshal(data []byte, into any) error { *into.(*[]byte) = data; return nil }
func (bytesCodec) Name() string                          { return "dtm_raw" }

// branch calls as DTM does, at the URL that it was told.
func (r *rig) branch(gid, url, op string, payload []byte) error {
	r.Helper()
	server, method, found := strings.Cut(url, "/")
	if !found {
		return errors.New("no url: " + url)
	}
	conn, err := grpc.NewClient("passthrough:///"+server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "dtm-gid", gid, "dtm-trans_type", "saga", "dtm-branch_id", "01", "dtm-op", op),
		20*time.Second)
	defer cancel()
	var out []byte
	return conn.Invoke(ctx, "/"+method, payload, &out, grpc.ForceCodec(bytesCodec{}))
}

func (r *rig) step(q *dtmgpb.DtmRequest, at int, op string) error {
	r.Helper()
	var steps []map[string]string
	if err := json.Unmarshal([]byte(q.Steps), &steps); err != nil {
		r.Fatal(err)
	}
	return r.branch(q.Gid, steps[at][op], op, q.BinPayloads[at])
}

func (r *rig) said() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		all = append(all, c.Op+" "+c.Branch)
	}
	return all
}
