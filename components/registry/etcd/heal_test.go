//go:build servers

package etcd_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

var handled = regexp.MustCompile(`(?m)^grpc_server_handled_total\{.*grpc_method="(?:Range|Txn)".*\} (\S+)$`)

// questions is how many reads and transactions etcd has answered.
func questions(t *testing.T) (n int) {
	t.Helper()
	for _, address := range etcdtest.Options(t).Addresses {
		in, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		in.Close = true
		out, err := http.DefaultClient.Do(in)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(out.Body)
		out.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range handled.FindAllSubmatch(text, -1) {
			one, err := strconv.ParseFloat(string(found[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			n += int(one)
		}
	}
	return n
}

// TestManyRecordsAreLookedAtTogether: of so many those that are spoilt are written anew, and no others, and etcd is not asked for each.
func TestManyRecordsAreLookedAtTogether(t *testing.T) {
	const records = 350
	prefix := etcdtest.Prefix()
	d, client := open(t, prefix), etcdtest.Client(t, etcdtest.Options(t))
	componenttest.Together(records, func(i int) {
		s := registry.Service{Namespace: "shop", Group: "main", Name: fmt.Sprint("service", i)}
		if err := d.Register(t.Context(), registry.Record{Service: s, Address: "10.0.0.1:1", Weight: i}); err != nil {
			t.Error(err)
		}
	})
	read := func() map[string]int64 {
		t.Helper()
		got, err := client.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]int64{}
		for _, kv := range got.Kvs {
			out[string(kv.Key)] = kv.ModRevision
		}
		return out
	}
	before := read()
	spoilt := map[string]bool{}
	asked := questions(t)
	events := client.Watch(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-events
	for key := range before {
		op := clientv3.OpDelete(key)
		if len(spoilt)%2 == 1 {
			op = clientv3.OpPut(key, "no record")
		}
		if _, err := client.Do(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		if spoilt[key] = true; len(spoilt) == 10 {
			break
		}
	}
	anew := map[string]bool{}
	for limit := time.After(20 * time.Second); len(anew) < len(spoilt); {
		select {
		case got := <-events:
			if err := got.Err(); err != nil {
				t.Fatal(err)
			}
			for _, e := range got.Events {
				if key := string(e.Kv.Key); e.Type == clientv3.EventTypePut && string(e.Kv.Value) != "no record" {
					anew[key] = true
				}
			}
		case <-limit:
			t.Fatalf("%d of %d are written anew", len(anew), len(spoilt))
		}
	}
	asked = questions(t) - asked
	for key, revision := range read() {
		if !spoilt[key] && before[key] != revision {
			t.Errorf("%s is written anew", key)
		}
	}
	if t.Logf("%d questions", asked); asked > records/2 {
		t.Errorf("etcd was asked %d times about %d records", asked, records)
	}
}
