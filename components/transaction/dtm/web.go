package dtm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// web is DTM's HTTP interface, the only one that tells how transactions are.
type web struct {
	address string
	client  *http.Client
	timeout time.Duration
}

func newWeb(o Options) *web {
	t := &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}
	return &web{address: o.HTTP, client: &http.Client{Transport: t}, timeout: o.RequestTimeout}
}

func (w *web) close() { w.client.CloseIdleConnections() }

// row is a transaction as DTM has it.
type row struct {
	Gid            string     `json:"gid"`
	Type           string     `json:"trans_type"`
	Status         string     `json:"status"`
	QueryPrepared  string     `json:"query_prepared"`
	RollbackReason string     `json:"rollback_reason"`
	CustomData     string     `json:"custom_data"`
	CreateTime     *time.Time `json:"create_time"`
	FinishTime     *time.Time `json:"finish_time"`
	RollbackTime   *time.Time `json:"rollback_time"`
	NextCronTime   *time.Time `json:"next_cron_time"`
}

// op is what is to be called for one operation of a branch.
type op struct {
	Branch  string `json:"branch_id"`
	Op      string `json:"op"`
	Status  string `json:"status"`
	URL     string `json:"url"`
	Payload []byte `json:"bin_data"`
}

type record struct {
	Row *row `json:"transaction"`
	Ops []op `json:"branches"`
}

const largest = 64 << 20 // bytes of an answer

// do asks DTM. What it answers but 200 is an error, after which nothing is known of a write.
func (w *web) do(ctx context.Context, method, path string, query url.Values, body, into any) error {
	limited, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	text := []byte(nil)
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(limited, method, "http://"+w.address+"/api/dtmsvr/"+path+"?"+query.Encode(), bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := w.client.Do(r)
	if err != nil {
		return backend.Unreachable(ctx, w.where(), err)
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(io.LimitReader(answer.Body, largest))
	switch {
	case err != nil:
		return backend.Unreachable(ctx, w.where(), err)
	case answer.StatusCode != http.StatusOK:
		return backend.Unreachable(ctx, w.where(), fmt.Errorf("it answers %s: %.200q", answer.Status, text))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return backend.Unreachable(ctx, w.where(), fmt.Errorf("it answers what is no DTM's answer: %w", err))
	}
	return nil
}

func (w *web) where() string { return "dtm " + w.address }

func (w *web) version(ctx context.Context) error {
	var v struct{ Version *string }
	err := w.do(ctx, http.MethodGet, "version", nil, nil, &v)
	if err == nil && v.Version == nil {
		err = backend.Unreachable(ctx, w.where(), fmt.Errorf("it answers what is no DTM's answer"))
	}
	return err
}

// find fails with NotFound if there is no such transaction.
func (w *web) find(ctx context.Context, gid string) (*record, error) {
	out := &record{}
	if err := w.do(ctx, http.MethodGet, "query", url.Values{"gid": {gid}}, nil, out); err != nil {
		return nil, err
	}
	if out.Row == nil || out.Row.Gid != gid {
		return nil, transaction.NotFound()
	}
	return out, nil
}

// exists looks for no more than the transaction itself.
func (w *web) exists(ctx context.Context, gid string) (bool, error) {
	r, err := w.row(ctx, gid)
	return r != nil, err
}

// row is the transaction itself; nil if there is none.
func (w *web) row(ctx context.Context, gid string) (*row, error) {
	var out struct{ Transactions []row }
	if err := w.do(ctx, http.MethodGet, "all", url.Values{"gid": {gid}}, nil, &out); err != nil || len(out.Transactions) == 0 {
		return nil, err
	}
	return &out.Transactions[0], nil
}

const pageSize = 1000

// scan answers all transactions of a status (empty: of any) that began before some time (zero: at any), in no order that could be relied on.
func (w *web) scan(ctx context.Context, status string, before time.Time, each func(*row)) error {
	q := url.Values{"limit": {strconv.Itoa(pageSize)}, "status": {status}}
	if !before.IsZero() {
		q.Set("createTimeEnd", strconv.FormatInt(before.UnixMilli(), 10))
	}
	for {
		var out struct {
			Transactions []row
			NextPosition string `json:"next_position"`
		}
		if err := w.do(ctx, http.MethodGet, "all", q, nil, &out); err != nil {
			return err
		}
		for i := range out.Transactions {
			each(&out.Transactions[i])
		}
		if out.NextPosition == "" {
			return nil
		}
		q.Set("position", out.NextPosition)
	}
}

// stop has DTM leave a transaction as it is.
func (w *web) stop(ctx context.Context, gid string) error {
	return w.do(ctx, http.MethodPost, "forceStop", nil, map[string]string{"gid": gid}, nil)
}

// look has DTM look at a transaction soon. Its store in a file does not mind that.
func (w *web) look(ctx context.Context, gid string) error {
	return w.do(ctx, http.MethodPost, "resetNextCronTime", nil, map[string]string{"gid": gid}, nil)
}

// lookAtAll has DTM look soon at all transactions, whoever's, that it would not look at within that time.
func (w *web) lookAtAll(ctx context.Context, within time.Duration) error {
	q := url.Values{"timeout": {strconv.Itoa(int(within / time.Second))}, "limit": {strconv.Itoa(pageSize)}}
	var out struct {
		More bool `json:"has_remaining"`
	}
	for range 100 {
		if err := w.do(ctx, http.MethodGet, "resetCronTime", q, nil, &out); err != nil || !out.More {
			return err
		}
	}
	return nil
}
