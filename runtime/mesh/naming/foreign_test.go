package naming_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// weights are entries as ADDRESS/WEIGHT.
func weights(s mesh.Service, records ...registry.Record) (out []string) {
	for _, e := range forms[s.Protocol].Entries(s, records) {
		out = append(out, fmt.Sprint(e.Address, "/", e.Weight))
	}
	return out
}

// TestWeightsInNacos: SOFARPC and Dubbo write theirs into the metadata and read it there; Nacos's own, 100 here where it is 1, is its console's.
func TestWeightsInNacos(t *testing.T) {
	for _, protocol := range []string{"bolt", "dubbo"} {
		s := service(protocol, "peer.Hello")
		at, _ := forms[protocol].Place("nacos", s)
		for _, c := range []struct {
			metadata string
			weight   int // Nacos's
			want     int
		}{{"", 100, 100}, {"300", 100, 300}, {"0", 100, 0}, {"300", 0, 0}, {"50", 200, 100}, {"1", 50, 1}, {"x", 100, 100}, {"1000000", 1<<31 - 1, 1<<31 - 1}} {
			md := map[string]string{"protocol": protocol, "uniqueId": "", "version": s.Version, "weight": c.metadata}
			got := weights(s, registry.Record{Service: at, Address: "10.0.0.1:1", Weight: c.weight, Metadata: md})
			if want := fmt.Sprint("10.0.0.1:1/", c.want); len(got) != 1 || got[0] != want {
				t.Errorf("%s, %+v: %v", protocol, c, got)
			}
		}
	}
}

// TestDubboApplicationsAreNoHTTP: in Nacos they are where Spring Cloud's are, by the same name if an application has both. What Spring Cloud has
// written is read, whatever it says of Dubbo besides.
func TestDubboApplicationsAreNoHTTP(t *testing.T) {
	s := service("http", "orders")
	at, _ := forms["http"].Place("nacos", s)
	record := func(address string, md map[string]string) registry.Record {
		return registry.Record{Service: at, Address: address, Weight: 100, Metadata: md}
	}
	got := weights(s,
		record("10.0.0.1:8080", map[string]string{"preserved.register.source": "SPRING_CLOUD"}),
		record("10.0.0.1:20880", map[string]string{"dubbo.endpoints": `[{"port":20880,"protocol":"dubbo"}]`, "dubbo.metadata.revision": "1"}),
		record("10.0.0.2:8080", map[string]string{"preserved.register.source": "SPRING_CLOUD", "dubbo.endpoints": `[{"port":20880,"protocol":"dubbo"}]`}),
		record("10.0.0.3:8443", map[string]string{"secure": "TRUE"}))
	if want := []string{"10.0.0.1:8080/100", "10.0.0.2:8080/100"}; !slices.Equal(got, want) {
		t.Errorf("read as %q, want %q", got, want)
	}
}

// spring is an instance of Spring Cloud in ZooKeeper, with more of its fields and of its metadata.
func spring(id, fields, metadata string) registry.Record {
	return registry.Record{Node: id, Data: fmt.Sprintf(`{"name":"stock","id":%q,"address":"10.0.0.1","port":8080%s,"enabled":true,"payload":{"id":"x","metadata":{"a":"b"%s}}}`, id, fields, metadata)}
}

// TestWhatSpringCloudSays of an instance: its status as Spring Cloud reads it, and the port that speaks TLS.
func TestWhatSpringCloudSays(t *testing.T) {
	s := service("http", "stock")
	at, _ := forms["http"].Place("zookeeper", s)
	for _, c := range []struct{ fields, metadata, want string }{
		{"", `,"instance_status":"UP"`, "10.0.0.1:8080/100"}, {"", `,"instance_status":"up"`, "10.0.0.1:8080/100"}, {"", `,"instance_status":" "`, "10.0.0.1:8080/100"},
		{"", `,"instance_status":"OUT_OF_SERVICE","weight":"5"`, "10.0.0.1:8080/0"}, {`,"sslPort":null`, "", "10.0.0.1:8080/100"},
		{`,"sslPort":8443`, "", "10.0.0.1:8080/100"}, {`,"sslPort":8080`, "", ""},
	} {
		r := spring("1", c.fields, c.metadata)
		r.Service = at
		if got := strings.Join(weights(s, r), " "); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestWhatHasNoAddress is left out, and the rest of the folder is not: anybody may write there.
func TestWhatHasNoAddress(t *testing.T) {
	for protocol, rest := range map[string]string{"bolt": "?protocol=bolt&uniqueId=", "dubbo": "/peer.Hello"} {
		s := service(protocol, "peer.Hello")
		at, _ := forms[protocol].Place("zookeeper", s)
		var all []registry.Record
		for _, address := range []string{"10.0.0.1", ":1", "10.0.0.1:0", "10.0.0.1:x", "10.0.0.1:65536", "a b:1", "me:pw@10.0.0.1:1", "10.0.0.1:1:1", "[::1]:1", "10.0.0.2:1"} {
			all = append(all, registry.Record{Service: at, Node: url.QueryEscape(protocol + "://" + address + rest)})
		}
		if got, want := weights(s, all...), []string{"[::1]:1/100", "10.0.0.2:1/100"}; !slices.Equal(got, want) {
			t.Errorf("%s: read as %q, want %q", protocol, got, want)
		}
	}
}

// TestOutOfServiceIsBelieved at once, also of the last instance: it is no drop, which a directory holds. An instance that is there twice is
// called if one of the two may be.
func TestOutOfServiceIsBelieved(t *testing.T) {
	disabled := func(r registry.Record) registry.Record { r.Node += url.QueryEscape("&disabled=true"); return r }
	dubbo := registry.Record{Node: url.QueryEscape("dubbo://10.0.0.1:8080/stock?side=provider")}
	for protocol, c := range map[string]struct{ up, out registry.Record }{
		"http":  {spring("2", "", ""), spring("1", "", `,"instance_status":"OUT_OF_SERVICE"`)},
		"dubbo": {dubbo, disabled(dubbo)},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := service(protocol, "stock")
			at, _ := forms[protocol].Place("zookeeper", s)
			b := &board{lists: map[string]chan []registry.Record{"": make(chan []registry.Record), at.Folder: make(chan []registry.Record)}}
			d := mesh.NewDirectory(names(b, "zookeeper"), slog.New(slog.NewTextHandler(io.Discard, nil)))
			defer d.Close()
			d.Hold = time.Minute
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			told := ""
			go func() {
				_ = d.Watch(ctx, s, func(now *mesh.Snapshot) error {
					told = fmt.Sprintf("held %d:", len(now.Held))
					for _, e := range now.Endpoints {
						told += fmt.Sprint(" ", e.Instance().Address, "/", e.Instance().Weight)
					}
					return nil
				})
			}()
			b.lists[""] <- nil
			for _, step := range []struct {
				list []registry.Record
				want string
			}{
				{[]registry.Record{c.up}, "held 0: 10.0.0.1:8080/100"},
				{[]registry.Record{c.out, c.up}, "held 0: 10.0.0.1:8080/100"},
				{[]registry.Record{c.up, c.out}, "held 0: 10.0.0.1:8080/100"},
				{[]registry.Record{c.out}, "held 0: 10.0.0.1:8080/0"},
				{nil, "held 1:"},
			} {
				b.lists[at.Folder] <- step.list
				synctest.Wait()
				if told != step.want {
					t.Errorf("%s: told %q, want %q", protocol, told, step.want)
				}
			}
		})
	}
}
