package mesh_test

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// While policies are replaced each call is decided by one set of them: its rule, its time and its instances, also those of its second attempt,
// which may come after the change.
func TestACallIsRuledByOneSetOfPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := func(name string, timeout time.Duration) mesh.Policies {
			return policies(func(p *mesh.Policies) {
				p.Routes = []mesh.Route{{Name: name, Service: "stock", Rule: mesh.Rule{Timeout: timeout}, Split: []mesh.Share{{Labels: map[string]string{"set": name}, Weight: 1}}}}
			})
		}
		sets := [2]mesh.Policies{set("one", time.Second), set("two", 2*time.Second)}
		var all []mesh.Instance
		for _, address := range []string{"one:1", "one:2", "two:1", "two:2"} {
			all = append(all, mesh.Instance{Address: address, Labels: mesh.LabelsOf(map[string]string{"set": address[:3]})})
		}
		e, _ := ruled(t, sets[0], all...)
		// call makes two attempts, with between in the middle, and tells whose the call is.
		call := func(between func()) string {
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Error(err)
				return ""
			}
			name, _, _ := strings.Cut(p.Rule(), "/")
			if want := map[string]time.Duration{"one": time.Second, "two": 2 * time.Second}[name]; p.Timeout() != want {
				t.Errorf("a call by %s may take %v, want %v", p.Rule(), p.Timeout(), want)
			}
			for range 2 {
				a, err := p.Next()
				if err != nil {
					t.Error(err)
					return ""
				}
				if at := a.Instance().Address; !strings.HasPrefix(at, name) {
					t.Errorf("a call by %s goes to %s", p.Rule(), at)
				}
				between()
				a.Report(mesh.Answered)
			}
			return name
		}
		apply := func(p mesh.Policies) {
			if err := e.Policies.Apply(p, "shop"); err != nil {
				t.Error(err)
			}
		}
		if name := call(func() { apply(sets[1]) }); name != "one" {
			t.Errorf("ruled by %s, want one", name)
		}
		if name := call(func() {}); name != "two" {
			t.Errorf("ruled by %s after the change", name)
		}
		var done atomic.Bool
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for !done.Load() && !t.Failed() {
					call(runtime.Gosched)
				}
			})
		}
		for n := range 1000 {
			apply(sets[n%2])
			runtime.Gosched()
		}
		done.Store(true)
		callers.Wait()
	})
}
