package mesh_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// toBad begins n calls, answers those to other instances, and has those to the one called bad ended as it is told.
func toBad(t *testing.T, e mesh.Engine, n int, end func(mesh.Attempt)) {
	t.Helper()
	for range n {
		p, err := plan(e, mesh.Request{})
		if err != nil {
			t.Fatal(err)
		}
		if a, _ := p.Next(); a.Instance().Address == "bad" {
			end(a)
		} else {
			a.Report(mesh.Answered)
		}
	}
}

// bad begins n calls, and answers those to bad, which do not end.
func bad(t *testing.T, e mesh.Engine, n int) (all []mesh.Attempt) {
	t.Helper()
	toBad(t, e, n, func(a mesh.Attempt) { all = append(all, a) })
	return all
}

// An instance that was out of play gets one call, though many are made meanwhile, and all when that was answered.
func TestOneCallTriesAnEjectedInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "good", "bad")
		e := router(t, s)
		for _, a := range bad(t, e, 100)[:3] {
			a.Report(mesh.Failed)
		}
		time.Sleep(time.Second)
		first := bad(t, e, 100)
		if len(first) != 1 {
			t.Fatalf("%d calls try whether it is well again, want 1", len(first))
		}
		time.Sleep(time.Second) // nothing comes of it
		second := bad(t, e, 100)
		if len(second) != 1 {
			t.Fatalf("%d calls try it after the first has hung for a second, want 1", len(second))
		}
		second[0].Report(mesh.Answered)
		if n := len(bad(t, e, 100)); n < 5 { // a quarter, by chance: calls go there that do not end, and elsewhere those that do
			t.Errorf("%d of 100 calls go there though it is well", n)
		}
	})
}

// An instance that lets calls hang, as a frozen one does, is out of play for as long as they did, and not for a moment.
func TestEjectedForAsLongAsCallsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "good", "bad")
		e := router(t, s)
		hang := bad(t, e, 100)[:3]
		time.Sleep(20 * time.Second)
		for _, a := range hang {
			a.Report(mesh.Failed)
		}
		time.Sleep(19 * time.Second)
		if n := len(bad(t, e, 100)); n != 0 {
			t.Errorf("%d calls go there 19 s after three had hung for 20 s", n)
		}
		time.Sleep(2 * time.Second)
		if n := len(bad(t, e, 100)); n != 1 {
			t.Errorf("%d calls try it after 21 s, want 1", n)
		}
	})
}
