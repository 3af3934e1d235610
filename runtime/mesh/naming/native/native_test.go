package native_test

import (
	"fmt"
	"reflect"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/native"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	full = mesh.Service{Namespace: "shop", Name: "peer.Hello:1.0", Group: "g", Version: "2", Protocol: "grpc"}
	here = mesh.Instance{Address: "10.0.0.1:7080", Weight: 7, Zone: "z", Labels: mesh.LabelsOf(map[string]string{"canary": "yes", "outrigger.zone": "mine", "": "x"})}
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, s := range []mesh.Service{full, {Namespace: "shop", Name: "stock"}} {
		for _, in := range []mesh.Instance{here, {Address: "10.0.0.1:7080"}} {
			at, _ := native.Form{}.Place("etcd", s)
			r := native.Form{}.Record(at, naming.Provider{Service: s, Instance: in})
			if err := r.Check(); err != nil {
				t.Errorf("%v: %v", r, err)
			}
			if in.Protocol = s.Protocol; r.Namespace != s.Namespace || r.Name != s.Name || r.Group != s.Group {
				t.Errorf("%v is written as %v", s, r)
			}
			if got := (native.Form{}).Entries(s, []registry.Record{r}); !reflect.DeepEqual(got, []naming.Entry{{Instance: in}}) {
				t.Errorf("%+v was written, %+v is read", in, got)
			}
		}
	}
}

// What no sidecar has written is an application's own, if that is wanted; what it says besides does not matter.
func TestWhoHasNoSidecar(t *testing.T) {
	s := mesh.Service{Namespace: "shop", Name: "stock"}
	at, _ := native.Form{}.Place("nacos", s)
	all := []registry.Record{{Service: at, Address: "10.0.0.1:9090", Weight: 1}, {Service: at, Address: "10.0.0.2:9090", Weight: 1, Metadata: map[string]string{"version": "2", "label.version": "v2"}},
		native.Form{}.Record(at, naming.Provider{Service: s, Instance: mesh.Instance{Address: "10.0.0.3:7080"}, Port: 9090})}
	for _, wanted := range []bool{false, true} {
		for i, e := range (native.Form{Direct: func() bool { return wanted }}).Entries(s, all) {
			if e.Direct != (wanted && i < 2) {
				t.Errorf("%+v, wanted: %v", e, wanted)
			}
		}
	}
}

func TestVersionAndProtocolChoose(t *testing.T) {
	var all []registry.Record
	for n, s := range []mesh.Service{{Version: "1", Protocol: "grpc"}, {Version: "2", Protocol: "grpc"}, {Version: "2", Protocol: "http"}, {}, {Protocol: "bolt"}, {Protocol: "dubbo"}} {
		s.Namespace, s.Name = "shop", "stock"
		at, _ := native.Form{}.Place("etcd", s)
		all = append(all, native.Form{}.Record(at, naming.Provider{Service: s, Instance: mesh.Instance{Address: fmt.Sprintf("10.0.0.%d:1", n)}}))
	}
	for _, c := range []struct {
		version, protocol string
		want              []string
	}{
		{"", "", []string{"0", "1", "2", "3", "4", "5"}}, {"2", "", []string{"1", "2"}}, {"", "grpc", []string{"0", "1"}}, {"2", "http", []string{"1", "2"}}, {"", "http", []string{"0", "1", "2", "3"}}, {"", "bolt", []string{"4"}}, {"3", "", nil},
	} {
		var got []string
		for _, in := range (native.Form{}).Entries(mesh.Service{Namespace: "shop", Name: "stock", Version: c.version, Protocol: c.protocol}, all) {
			got = append(got, in.Address[7:8])
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("version %q, protocol %q: %v, want %v", c.version, c.protocol, got, c.want)
		}
	}
}

// What others write into the registry is read without a fault.
func FuzzEntries(f *testing.F) {
	f.Add("outrigger.zone", "z", "label.", "v")
	f.Add("label.label.", "", "outrigger.version", "2")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		in := (native.Form{}).Entries(mesh.Service{Namespace: "shop", Name: "stock"}, []registry.Record{{Address: "a:1", Metadata: map[string]string{k1: v1, k2: v2}}})
		if len(in) != 1 || in[0].Address != "a:1" || len(in[0].Labels.Map()) > 2 {
			t.Fatalf("read as %+v", in)
		}
	})
}
