package mesh_test

import (
	"testing"
	"testing/synctest"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

func TestWhatIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			what     string
			rule     mesh.Rule
			safe     bool
			protocol string
			f        mesh.Failure
			want     bool
		}{
			{"never sent", mesh.Rule{}, false, "grpc", mesh.Failure{Kind: mesh.Connect}, true},
			{"never sent, one attempt", mesh.Rule{Retry: mesh.Retry{Attempts: 1}}, true, "grpc", mesh.Failure{Kind: mesh.Connect}, false},
			{"not there", mesh.Rule{}, false, "bolt", mesh.Failure{Kind: mesh.NotHere}, true},
			{"sent", mesh.Rule{}, false, "grpc", mesh.Failure{Kind: mesh.Closed, Sent: true}, false},
			{"sent, safe", mesh.Rule{}, true, "bolt", mesh.Failure{Kind: mesh.Closed, Sent: true}, true},
			{"attempt's time, safe", mesh.Rule{}, true, "dubbo", mesh.Failure{Kind: mesh.Timeout, Sent: true}, true},
			{"not asked for", mesh.Rule{Retry: mesh.Retry{On: []string{"reset"}}}, true, "http", mesh.Failure{Kind: mesh.Closed, Sent: true}, false},
			{"asked for", mesh.Rule{Retry: mesh.Retry{On: []string{"reset"}}}, true, "http", mesh.Failure{Kind: mesh.Reset, Sent: true}, true},
			{"503", mesh.Rule{}, true, "http", mesh.Failure{Kind: mesh.Status, Status: "503", Sent: true}, true},
			{"503, not safe", mesh.Rule{}, false, "http", mesh.Failure{Kind: mesh.Status, Status: "503", Sent: true}, false},
			{"500", mesh.Rule{}, true, "http", mesh.Failure{Kind: mesh.Status, Status: "500", Sent: true}, false},
			{"500 as 5xx", mesh.Rule{Retry: mesh.Retry{On: []string{"5xx"}}}, true, "http", mesh.Failure{Kind: mesh.Status, Status: "500", Sent: true}, true},
			{"14", mesh.Rule{}, true, "grpc", mesh.Failure{Kind: mesh.Status, Status: "14", Sent: true}, true},
			{"aborted", mesh.Rule{Retry: mesh.Retry{On: []string{"aborted"}}}, true, "grpc", mesh.Failure{Kind: mesh.Status, Status: "10", Sent: true}, true},
			{"busy", mesh.Rule{}, true, "bolt", mesh.Failure{Kind: mesh.Status, Status: "4", Sent: true}, true},
			{"7", mesh.Rule{Retry: mesh.Retry{On: []string{"7"}}}, true, "bolt", mesh.Failure{Kind: mesh.Status, Status: "7", Sent: true}, true},
		} {
			e, _ := ruled(t, policies(func(p *mesh.Policies) { p.Routes = []mesh.Route{{Service: "stock", Rule: c.rule}} }), versions...)
			p, err := plan(e, mesh.Request{Protocol: c.protocol, Repeatable: c.safe})
			if err != nil {
				t.Fatal(err)
			}
			a, _ := p.Next()
			a.Report(mesh.Unknown)
			if got := p.Again(c.f); got != c.want {
				t.Errorf("%s: repeated %v, want %v", c.what, got, c.want)
			}
			if b, _ := p.Next(); p.Again(mesh.Failure{Kind: mesh.Status, Status: "14", Sent: true}) {
				t.Errorf("%s: a third attempt after %s", c.what, b.Instance().Address)
			}
		}
	})
}

// Whoever says that it does not serve this is not asked a second time; one that cannot be connected may be.
func TestWhoDoesNotServeItIsNotAskedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for kind, want := range map[mesh.FailureKind]int{mesh.NotHere: 2, mesh.Connect: 3} {
			e, _ := ruled(t, policies(func(*mesh.Policies) {}), versions[:2]...)
			p, err := plan(e, mesh.Request{Protocol: "bolt"})
			if err != nil {
				t.Fatal(err)
			}
			for n := 1; ; n++ {
				a, err := p.Next()
				if err != nil {
					t.Fatal(err)
				}
				a.Report(mesh.Unreachable)
				if !p.Again(mesh.Failure{Kind: kind}) {
					if n != want {
						t.Errorf("kind %d: %d attempts, want %d", kind, n, want)
					}
					break
				}
			}
		}
	})
}
