package nacos

import (
	"testing"
	"time"

	"github.com/nacos-group/nacos-sdk-go/v2/model"

	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

// TestHeldUntilTheServerAnswers: of thousands of services one may be asked for late, or be refused. That hold is over makes its list not empty;
// what the server says then counts at once.
func TestHeldUntilTheServerAnswers(t *testing.T) {
	said := model.Service{Hosts: []model.Instance{{Ip: "10.0.0.1", Port: 1, Enable: true, Healthy: true}}}
	early, late := &service{}, &service{}
	h := &hub{hold: time.Hour, services: map[nacosconn.Service]*service{{Name: "early"}: early, {Name: "late"}: late}}
	defer func() { h.letGo.Stop() }()
	for range 2 {
		h.begin()
		for _, s := range h.services {
			s.list.take(said, h.believed)
		}
		h.begin() // another connection
		early.list.take(model.Service{}, h.believed)
		if len(early.list.now()) != 1 || len(late.list.now()) != 1 {
			t.Fatalf("while it is held: %v, %v", early.list.now(), late.list.now())
		}
		h.believe()
		if len(early.list.now()) != 0 || len(late.list.now()) != 1 {
			t.Errorf("when hold is over: %v, and %v of what the server has not answered for", early.list.now(), late.list.now())
		}
		late.list.take(model.Service{}, h.believed)
		if len(late.list.now()) != 0 {
			t.Errorf("%v are listed that the server does not list", late.list.now())
		}
	}
}

// TestRegisteredAgain: what the server knows is not told again, unless it counts by now instead of another's.
func TestRegisteredAgain(t *testing.T) {
	one, two := &driver{}, &driver{}
	record := func(of *driver, weight float64) claim {
		return claim{source{of, false}, model.Instance{Ip: "10.0.0.1", Port: 1, Weight: weight, Metadata: map[string]string{"a": "b"}}}
	}
	h, s := &hub{}, &service{claims: map[string][]claim{}}
	for i, c := range []struct {
		claim
		told bool
	}{{record(one, 1), true}, {record(one, 1), false}, {record(one, 2), true}, {record(two, 2), true}, {record(two, 2), false}, {record(one, 2), true}} {
		s.untold = false
		h.change(s, "10.0.0.1:1", func(all []claim) []claim { return with(without(all, c.source), c.claim) })
		if s.untold != c.told {
			t.Errorf("%d: to be told %t", i, s.untold)
		}
	}
}
