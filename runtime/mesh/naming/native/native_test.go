package native_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/native"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	full = mesh.Service{Namespace: "shop", Name: "peer.Hello:1.0", Group: "g", Version: "2", Protocol: "grpc"}
	here = mesh.Instance{Address: "10.0.0.1:7080", Weight: 7, Zone: "z", Labels: map[string]string{"canary": "yes", "outrigger.zone": "mine", "": "x"}}
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, s := range []mesh.Service{full, {Namespace: "shop", Name: "stock"}} {
		for _, in := range []mesh.Instance{here, {Address: "10.0.0.1:7080", Labels: map[string]string{}}} {
			r := native.Record(s, in)
			if err := r.Check(); err != nil {
				t.Errorf("%v: %v", r, err)
			}
			if r.Namespace != s.Namespace || r.Name != s.Name || r.Group != s.Group {
				t.Errorf("%v is written as %v", s, r)
			}
			if got := native.Instances(s, []registry.Record{r}); !reflect.DeepEqual(got, []mesh.Instance{in}) {
				t.Errorf("%+v was written, %+v is read", in, got)
			}
		}
	}
}

func TestVersionAndProtocolChoose(t *testing.T) {
	var all []registry.Record
	for n, s := range []mesh.Service{{Version: "1", Protocol: "grpc"}, {Version: "2", Protocol: "grpc"}, {Version: "2", Protocol: "http"}, {}} {
		s.Namespace, s.Name = "shop", "stock"
		all = append(all, native.Record(s, mesh.Instance{Address: fmt.Sprintf("10.0.0.%d:1", n)}))
	}
	for _, c := range []struct {
		version, protocol string
		want              []string
	}{
		{"", "", []string{"0", "1", "2", "3"}}, {"2", "", []string{"1", "2"}}, {"", "grpc", []string{"0", "1"}}, {"2", "http", []string{"2"}}, {"3", "", nil},
	} {
		var got []string
		for _, in := range native.Instances(mesh.Service{Namespace: "shop", Name: "stock", Version: c.version, Protocol: c.protocol}, all) {
			got = append(got, in.Address[7:8])
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("version %q, protocol %q: %v, want %v", c.version, c.protocol, got, c.want)
		}
	}
}

// What others write into the registry is read without a fault.
func FuzzInstances(f *testing.F) {
	f.Add("outrigger.zone", "z", "label.", "v")
	f.Add("label.label.", "", "outrigger.version", "2")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		in := native.Instances(mesh.Service{Namespace: "shop", Name: "stock"}, []registry.Record{{Address: "a:1", Metadata: map[string]string{k1: v1, k2: v2}}})
		if len(in) != 1 || in[0].Address != "a:1" || len(in[0].Labels) > 2 {
			t.Fatalf("read as %+v", in)
		}
	})
}

// watched is a registry with one record, of the service it is asked for.
type watched struct{ registry.Driver }

func (watched) Watch(ctx context.Context, s registry.Service, report func([]registry.Record) error) error {
	if s.Group != full.Group {
		return fmt.Errorf("%w: asked for %v", components.ErrInvalid, s)
	}
	if err := report([]registry.Record{native.Record(full, here)}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

type observer struct{}

func (observer) Observe(context.Context, components.ID, string, time.Time, error) {}

func TestSourceOfADirectory(t *testing.T) {
	c := components.NewComponent[registry.Driver](components.ID{Capability: "registry", Name: "default", Driver: "test"}, components.Limits{}, observer{})
	c.Set(watched{})
	front := registry.New(c)
	s := native.Source{Registry: func() (*registry.Registry, error) { return front, nil }}
	enough := errors.New("enough")
	var got []mesh.Instance
	if err := s.Watch(t.Context(), full, func(all []mesh.Instance) error { got = all; return enough }); !errors.Is(err, enough) || !reflect.DeepEqual(got, []mesh.Instance{here}) {
		t.Errorf("reported %+v, ended with %v", got, err)
	}
	s.Registry = func() (*registry.Registry, error) { return nil, components.ErrNotFound }
	if err := s.Watch(t.Context(), full, nil); !errors.Is(err, components.ErrNotFound) {
		t.Errorf("without a registry: %v", err)
	}
}
