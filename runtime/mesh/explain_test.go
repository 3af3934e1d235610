package mesh_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v2 := map[string]string{"version": "v2"}
		e, _ := ruled(t, policies(func(p *mesh.Policies) {
			p.Routes = []mesh.Route{{Name: "other", Service: "stock", Match: mesh.Match{Method: "Put"}},
				{Name: "new", Service: "stock", Split: []mesh.Share{{Labels: v2, Weight: 1}}, Rule: mesh.Rule{Breaker: mesh.Breaker{Instance: 1}}}}
		}), mesh.Instance{Address: "good:1", Labels: mesh.LabelsOf(v2)}, mesh.Instance{Address: "old:1"}, mesh.Instance{Address: "dead:1", Labels: mesh.LabelsOf(v2)},
			mesh.Instance{Address: "full:1", Labels: mesh.LabelsOf(v2)}, mesh.Instance{Address: "idle:1", Labels: mesh.LabelsOf(v2), Weight: -1})
		full, dead := false, false
		for !full || !dead {
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatal(err)
			}
			a, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			switch a.Instance().Address {
			case "dead:1":
				a.Report(mesh.Unreachable)
				dead = true
			case "full:1":
				full = true
			default:
				a.Report(mesh.Answered)
			}
		}
		x := e.Explain(&mesh.Request{Service: stock, Method: "Get"})
		if x.Rule != "new" || len(x.PassedBy) != 1 || x.PassedBy[0] != "other" || x.Refused != "" || len(x.Shares) != 1 || x.Shares[0].Instances != 3 {
			t.Errorf("%+v", x)
		}
		want := map[string]string{"good:1": "a candidate", "old:1": "labels of no share", "dead:1": "out of play", "full:1": "under way", "idle:1": "weight is 0"}
		for _, i := range x.Instances {
			if !strings.Contains(i.Why, want[i.Address]) || i.Taken != (i.Address == "good:1") {
				t.Errorf("%s is taken %v: %s", i.Address, i.Taken, i.Why)
			}
			delete(want, i.Address)
		}
		if len(want) != 0 {
			t.Errorf("nothing is said of %v", want)
		}
		text, err := json.Marshal(x)
		if err != nil || !bytes.Contains(text, []byte(`"breaker":{"service":0,"instance":1}`)) || regexp.MustCompile(`"[^":]*[A-Z][^":]*":`).Match(text) {
			t.Errorf("a name is not in lower case, or %v: %s", err, text)
		}
		if x := e.Explain(&mesh.Request{Service: mesh.Service{Namespace: "shop", Name: "new"}}); x.Refused == "" {
			t.Errorf("of a service that is not known yet: %+v", x)
		}
	})
}
