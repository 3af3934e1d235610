package mesh_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// FuzzLabels: what was put in comes out, by name, as a map and through JSON, and labels that are the same are equal.
func FuzzLabels(f *testing.F) {
	f.Add("version", "v1", "", "")
	f.Add("", "\x00\x80", "a", strings.Repeat("x", 300))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		all := map[string]string{k1: v1, k2: v2}
		l := mesh.LabelsOf(all)
		if !maps.Equal(l.Map(), all) || l.Get(k1) != all[k1] || l.Get(k2) != all[k2] || l.Get(k1+k2+"x") != "" {
			t.Fatalf("%q became %q", all, l.Map())
		}
		if l != mesh.LabelsOf(map[string]string{k2: v2, k1: all[k1]}) {
			t.Error("the same labels differ")
		}
		text, err := json.Marshal(mesh.Instance{Labels: l})
		if err != nil {
			t.Fatal(err)
		}
		var again mesh.Instance
		if err := json.Unmarshal(text, &again); err != nil || again.Labels != mesh.LabelsOf(again.Labels.Map()) {
			t.Errorf("%s is read as %v, %v", text, again, err)
		}
		if valid(k1, v1, k2, v2) && again.Labels != l {
			t.Errorf("%s is read as %q", text, again.Labels.Map())
		}
	})
}

func valid(all ...string) bool {
	for _, s := range all {
		if strings.ToValidUTF8(s, "") != s {
			return false
		}
	}
	return true
}

func TestNoLabels(t *testing.T) {
	none := mesh.LabelsOf(map[string]string{})
	if none != "" || none.Map() != nil || none.Get("") != "" || none.String() != "" || mesh.LabelsOf(map[string]string{"a": "1", "b": ""}).String() != "a=1,b=" {
		t.Errorf("%q", none)
	}
	text, err := json.Marshal(mesh.Instance{})
	var again mesh.Instance
	if err != nil || json.Unmarshal(text, &again) != nil || again != (mesh.Instance{}) {
		t.Errorf("%s is read as %+v", text, again)
	}
}

// Of instances that stand in memory together each is as it came, also those that come later, and what others have does not show in them.
func TestInstancesAreAsTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		for i := range 40 {
			in := mesh.Instance{Address: fmt.Sprintf("10.0.0.%d:1", i), Weight: 1 + i, Direct: i%3 == 0, Protocol: []string{"", "grpc", "bolt"}[i/3%3], Zone: []string{"a", "a", "", "bb"}[i%4]}
			if i%5 > 0 {
				in.Identity, in.Labels = fmt.Sprint("spiffe://x/", i/7), mesh.LabelsOf(map[string]string{"n": fmt.Sprint(i % 9)})
			}
			s.all = append(s.all, in)
		}
		e := router(t, s)
		if _, err := plan(e, mesh.Request{}); err != nil {
			t.Fatal(err)
		}
		for round := range 3 {
			s.mu.Lock()
			for i := round; i < len(s.all); i += 3 {
				s.all[i].Zone += fmt.Sprint(round)
			}
			want := slices.Clone(s.all)
			s.mu.Unlock()
			s.poke()
			synctest.Wait()
			for i, p := range e.Directory.Find(stock).Snapshot().Endpoints {
				if *p.Instance() != want[i] {
					t.Errorf("%+v became %+v", want[i], *p.Instance())
				}
			}
		}
	})
}
