package naming_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/dubbo"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/sofa"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/springcloud"
)

var forms = map[string]naming.Form{"bolt": sofa.Form{}, "dubbo": dubbo.Form{}, "http": springcloud.Form{}}

// stock are the records of a folder that real providers have written.
func stock(t *testing.T, at registry.Service) (all []registry.Record) {
	t.Helper()
	text, err := os.ReadFile("testdata/zookeeper.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(f) == 3 && f[0] == at.Folder {
			all = append(all, registry.Record{Service: at, Node: f[1], Data: f[2]})
		}
	}
	if len(all) == 0 {
		t.Fatalf("nobody has written into %s", at.Folder)
	}
	return all
}

func service(protocol, name string) mesh.Service {
	return naming.Canonical(mesh.Service{Namespace: "shop", Name: name, Protocol: protocol})
}

func addresses(all []naming.Entry) (out []string) {
	for _, e := range all {
		out = append(out, e.Address)
	}
	slices.Sort(out)
	return out
}

// TestStockProvidersAreRead: as what they are, without a sidecar.
func TestStockProvidersAreRead(t *testing.T) {
	for _, c := range []struct {
		s    mesh.Service
		want []string
	}{
		{service("bolt", "peer.Hello"), []string{"127.0.0.1:12201"}},
		{service("bolt", "peer.Hello:2.0"), nil},
		{service("bolt", "peer.Hello:1.0:other"), nil},
		{service("dubbo", "peer.Hello"), []string{"127.0.0.1:20880", "127.0.0.1:20881"}}, // not the one that speaks Triple
		{mesh.Service{Namespace: "shop", Name: "peer.Hello", Version: "2", Protocol: "dubbo"}, nil},
		{mesh.Service{Namespace: "shop", Name: "peer.Hello", Group: "g", Protocol: "dubbo"}, nil},
		{service("http", "scloud-provider"), []string{"127.0.0.1:18082"}},
		{service("http", "dubbo-provider"), nil}, // Dubbo keeps applications there
	} {
		form := forms[c.s.Protocol]
		at, _ := form.Place("zookeeper", c.s)
		got := form.Entries(c.s, stock(t, at))
		if !slices.Equal(addresses(got), c.want) {
			t.Errorf("%+v: %v, want %v", c.s, addresses(got), c.want)
		}
		for _, e := range got {
			if !e.Direct || e.Protocol != c.s.Protocol || e.Weight != 100 || e.App != "" {
				t.Errorf("%+v: read as %+v", c.s, e)
			}
		}
	}
}

// left are keys that stock providers write and sidecars do not, and why.
var left = map[string]string{
	"pid": perProcess, "startTime": perProcess, "timestamp": perProcess, "id": perProcess,
	"methods":                   "the sidecar does not know them; stock consumers call providers that name none (TestMesh)",
	"release":                   ofLibrary,
	"revision":                  ofLibrary,
	"anyhost":                   "whether the provider listens at all of its host's addresses; consumers connect to the one that is written",
	"metadata-type":             byApplication,
	"service-name-mapping":      byApplication,
	"service.name":              "the bean's, in the provider's own Spring",
	"logger":                    "which logging the provider has",
	"preserved.register.source": "says that Spring Cloud has registered it; its consumers call who says nothing",
	"prefer.serialization":      "stock consumers that are told none send hessian2 (TestMesh), which is all that sidecars read",
}

const (
	perProcess    = "another for each start: a record must be the same when the sidecar is started anew"
	ofLibrary     = "which library the provider uses, and a package's version: the sidecar uses none"
	byApplication = "for consumers that look for applications, which sidecars do not register"
)

// TestOwnRecordsLookLikeStockOnes: each key that a stock provider writes and that we know is written with the same value, in the same order.
func TestOwnRecordsLookLikeStockOnes(t *testing.T) {
	for _, c := range []struct{ protocol, app, address string }{
		{"bolt", "sofa-provider", "127.0.0.1:12201"}, {"dubbo", "dubbo-provider", "127.0.0.1:20880"}, {"dubbo", "dubbo-provider", "127.0.0.1:20881"},
	} {
		s, form := service(c.protocol, "peer.Hello"), forms[c.protocol]
		at, _ := form.Place("zookeeper", s)
		ours := form.Record(at, naming.Provider{Service: s, App: c.app, Port: 1, Instance: mesh.Instance{Address: c.address, Weight: 100}})
		mine, _, _ := naming.ParseNode(ours.Node)
		compared := false
		for _, r := range stock(t, at) {
			theirs, _, _ := naming.ParseNode(r.Node)
			if theirs.Scheme+theirs.Address != mine.Scheme+c.address {
				continue
			}
			compared = true
			if theirs.Path != mine.Path {
				t.Errorf("path %q, want %q", mine.Path, theirs.Path)
			}
			var want []naming.Param
			for _, p := range theirs.Params {
				if left[p.Key] == "" {
					want = append(want, p)
				}
			}
			var got []naming.Param
			for _, p := range mine.Params {
				if slices.ContainsFunc(want, func(w naming.Param) bool { return w.Key == p.Key }) {
					got = append(got, p)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: wrote %v, they %v", c.protocol, got, want)
			}
		}
		if !compared {
			t.Errorf("nothing to compare %s with", c.address)
		}
	}
	s := service("http", "scloud-provider")
	at, _ := springcloud.Form{}.Place("zookeeper", s)
	ours := springcloud.Form{}.Record(at, naming.Provider{Service: s, Instance: mesh.Instance{Address: "127.0.0.1:18082", Weight: 100}})
	theirs := stock(t, at)[0].Data
	shape := func(text string) string { // without what differs
		for _, cut := range [][2]string{{`"id":"`, `"`}, {`"metadata":{`, `}`}, {`"registrationTimeUTC":`, `,`}} {
			head, rest, _ := strings.Cut(text, cut[0])
			_, tail, _ := strings.Cut(rest, cut[1])
			text = head + tail
		}
		return text
	}
	if shape(ours.Data) != shape(theirs) {
		t.Errorf("wrote %s, they %s", shape(ours.Data), shape(theirs))
	}
}

// TestOwnRecordsInNacosLookLikeStockOnes: in the same place, each key with the same value; and theirs are read.
func TestOwnRecordsInNacosLookLikeStockOnes(t *testing.T) {
	text, err := os.ReadFile("testdata/nacos.txt")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 {
			continue
		}
		compared++
		s, app := service("http", f[1]), ""
		switch {
		case f[0] == "sofa-rpc":
			s, app = service("bolt", "peer.Hello"), "sofa-p"
		case strings.HasPrefix(f[1], "providers:"):
			s, app = service("dubbo", "peer.Hello"), "dubbo-p"
		}
		var theirs map[string]string
		if err := json.Unmarshal([]byte(f[4]), &theirs); err != nil {
			t.Fatal(err)
		}
		form := forms[s.Protocol]
		at, _ := form.Place("nacos", s)
		if want := (registry.Service{Namespace: f[0], Name: f[1], Cluster: f[2]}); at != want {
			t.Errorf("%s is at %+v, theirs at %+v", s.Protocol, at, want)
		}
		ours := form.Record(at, naming.Provider{Service: s, App: app, Port: 1, Instance: mesh.Instance{Address: f[3], Weight: 100}})
		for key, want := range theirs {
			if got, there := ours.Metadata[key]; left[key] == "" && (got != want || !there) {
				t.Errorf("%s: wrote %s=%q, they %q", s.Protocol, key, got, want)
			}
		}
		got := form.Entries(s, []registry.Record{{Service: at, Address: f[3], Weight: 100, Metadata: theirs}})
		if len(got) != 1 || !got[0].Direct || got[0].Address != f[3] || got[0].Weight != 100 {
			t.Errorf("%s: read as %+v", s.Protocol, got)
		}
	}
	if compared != 3 {
		t.Errorf("%d records are compared, want 3", compared)
	}
}

// TestWhatASidecarWritesASidecarReads, in each registry, and nobody else takes it for theirs.
func TestWhatASidecarWritesASidecarReads(t *testing.T) {
	for _, driver := range []string{"zookeeper", "nacos"} {
		for _, s := range []mesh.Service{service("bolt", "peer.Hello:2.0:blue"), service("bolt", "peer.Hello"), service("dubbo", "peer.Hello"),
			{Namespace: "shop", Name: "peer.Hello", Version: "1.2", Group: "g", Protocol: "dubbo"}, service("http", "stock")} {
			form := forms[s.Protocol]
			at, ok := form.Place(driver, s)
			if !ok {
				t.Fatalf("%s has no place for %v", driver, s)
			}
			in := mesh.Instance{Address: "10.0.0.1:7080", Weight: 50, Zone: "a&b=c", Labels: mesh.LabelsOf(map[string]string{"v": "2%20+ é"}), Protocol: s.Protocol}
			p := naming.Provider{Service: s, App: "orders", Port: 12200, Instance: in}
			r := form.Record(at, p)
			if err := r.Check(); err != nil {
				t.Errorf("%v: %v", r, err)
			}
			if again := form.Record(at, p); !reflect.DeepEqual(r, again) {
				t.Errorf("%v differs from %v", again, r)
			}
			if driver == "zookeeper" {
				r.Address, r.Weight, r.Metadata = "", 0, nil // a tree has but the node
			}
			want := []naming.Entry{{Instance: in, App: "10.0.0.1:12200"}}
			if got := form.Entries(s, []registry.Record{r}); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v was written as %+v, read as %+v", driver, p, r, got)
			}
			other := s
			other.Namespace = "elsewhere"
			if got := form.Entries(other, []registry.Record{r}); len(got) != 0 {
				t.Errorf("read by another namespace as %+v", got)
			}
		}
	}
}

// TestPlacesInNacos are where stock consumers look.
func TestPlacesInNacos(t *testing.T) {
	for s, want := range map[mesh.Service]string{
		service("bolt", "peer.Hello"):                            "sofa-rpc||peer.Hello:DEFAULT|default-cluster",
		service("bolt", "peer.Hello:1.0:blue"):                   "sofa-rpc||peer.Hello:blue:DEFAULT|default-cluster",
		service("dubbo", "peer.Hello"):                           "public||providers:peer.Hello::|DEFAULT",
		{Name: "I", Version: "1", Group: "g", Protocol: "dubbo"}: "public||providers:I:1:g|DEFAULT",
		service("http", "stock"):                                 "public||stock|DEFAULT",
	} {
		at, ok := forms[s.Protocol].Place("nacos", s)
		if got := fmt.Sprintf("%s|%s|%s|%s", at.Namespace, at.Group, at.Name, at.Cluster); !ok || got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
		if _, ok := forms[s.Protocol].Place("etcd", s); ok {
			t.Errorf("%v has a place in etcd", s)
		}
	}
}

// FuzzEntries: what others write is read without a fault, and is never an entry without an address.
func FuzzEntries(f *testing.F) {
	f.Add("dubbo%3A%2F%2F127.0.0.1%3A20880%2Fpeer.Hello%3Finterface%3Dpeer.Hello", "")
	f.Add("bolt%3A%2F%2F127.0.0.1%3A1%3FuniqueId%3D%26protocol%3Dbolt", "\x01")
	f.Add("id", `{"name":"a","address":"127.0.0.1","port":1,"payload":{"metadata":{"weight":"7"}}}`)
	f.Fuzz(func(t *testing.T, node, data string) {
		for protocol, form := range forms {
			s := service(protocol, "peer.Hello")
			at, _ := form.Place("zookeeper", s)
			for _, e := range form.Entries(s, []registry.Record{{Service: at, Node: node, Data: data}}) {
				if e.Address == "" || e.Weight < 0 {
					t.Fatalf("read as %+v", e)
				}
			}
		}
	})
}
