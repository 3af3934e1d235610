package mesh_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

func policies(change func(*mesh.Policies)) mesh.Policies {
	p := mesh.Policies{Defaults: mesh.DefaultRule()}
	change(&p)
	return p
}

// ruled is a router over instances with policies in force.
func ruled(t *testing.T, p mesh.Policies, all ...mesh.Instance) (*mesh.Router, *source) {
	t.Helper()
	s := newSource()
	for i := range all {
		if all[i].Weight == 0 {
			all[i].Weight = 100
		}
	}
	s.all = all
	e := router(t, s)
	e.Policies = &mesh.Table{}
	if err := e.Policies.Apply(p, "shop"); err != nil {
		t.Fatal(err)
	}
	return e, s
}

func headers(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// once makes one attempt, which is answered, and tells where it went and by which rule.
func once(t *testing.T, e mesh.Engine, r mesh.Request) (address, rule string) {
	t.Helper()
	p, err := plan(e, r)
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.Next()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Report(mesh.Answered)
	return a.Instance().Address, p.Rule()
}

var versions = []mesh.Instance{{Address: "a:1", Labels: mesh.LabelsOf(map[string]string{"version": "v1"})}, {Address: "b:1", Labels: mesh.LabelsOf(map[string]string{"version": "v1"})},
	{Address: "c:1", Labels: mesh.LabelsOf(map[string]string{"version": "v2"})}}

func split(v2, v1 int) []mesh.Share {
	return []mesh.Share{{Labels: map[string]string{"version": "v2"}, Weight: v2}, {Labels: map[string]string{"version": "v1"}, Weight: v1}}
}

func TestSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s := ruled(t, policies(func(p *mesh.Policies) { p.Routes = []mesh.Route{{Service: "stock", Split: split(10, 90)}} }), versions...)
		count := func() (got map[string]int) {
			got = map[string]int{}
			for range 100_000 {
				address, rule := once(t, e, mesh.Request{})
				got[address]++
				got[rule]++
			}
			return got
		}
		if got := count(); got["c:1"] < 9500 || got["c:1"] > 10_500 || got["stock#1/version=v2"] != got["c:1"] || got["a:1"]-got["b:1"] > 3000 || got["b:1"]-got["a:1"] > 3000 {
			t.Errorf("10 to 90 got %v", got)
		}
		s.set(nil, "d:1") // none with a label is left
		synctest.Wait()
		if _, err := plan(e, mesh.Request{}); !errors.Is(err, components.ErrUnavailable) || !strings.Contains(err.Error(), "labels") {
			t.Errorf("without instances: %v", err)
		}
		s.mu.Lock()
		s.all = versions[:2]
		s.mu.Unlock()
		s.poke()
		synctest.Wait()
		if got := count(); got["a:1"]+got["b:1"] != 100_000 {
			t.Errorf("a share without instances took its calls along: %v", got)
		}
	})
}

func TestStickySplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := policies(func(p *mesh.Policies) {
			p.Routes = []mesh.Route{{Service: "stock", Split: split(30, 70), Sticky: "x-user"}}
		})
		one, _ := ruled(t, p, versions...)
		two, _ := ruled(t, p, versions...) // another sidecar
		n := 0
		for user := range 10_000 {
			r := mesh.Request{Header: headers("x-user", fmt.Sprint(user))}
			_, first := once(t, one, r)
			for _, e := range []mesh.Engine{one, two} {
				if _, again := once(t, e, r); again != first {
					t.Fatalf("user %d went to %s, then to %s", user, first, again)
				}
			}
			if strings.HasSuffix(first, "v2") {
				n++
			}
		}
		if n < 2800 || n > 3200 {
			t.Errorf("%d of 10000 users are on the side of 30", n)
		}
	})
}

func TestMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		route := func(name string, m mesh.Match) mesh.Route { return mesh.Route{Name: name, Service: "stock", Match: m} }
		e, _ := ruled(t, policies(func(p *mesh.Policies) {
			p.Routes = []mesh.Route{
				{Name: "other", Service: "other"},
				route("user", mesh.Match{Headers: map[string]string{"x-user": "7"}}),
				route("any", mesh.Match{Headers: map[string]string{"x-beta": "*"}}),
				route("full", mesh.Match{Method: "shop.v1.Stock/Get"}),
				route("last", mesh.Match{Method: "Put"}),
				route("prefix", mesh.Match{Method: "shop.v1.Admin/*"}),
				route("source", mesh.Match{Source: "orders"}),
				route("namespace", mesh.Match{Source: "bank/pay"}),
				{Name: "each", Service: "*", Match: mesh.Match{Method: "Each"}},
			}
		}), mesh.Instance{Address: "a:1"})
		for _, c := range []struct {
			r    mesh.Request
			want string
		}{
			{mesh.Request{}, "default"},
			{mesh.Request{Header: headers("x-user", "7"), Method: "Put"}, "user"},
			{mesh.Request{Header: headers("x-user", "8")}, "default"},
			{mesh.Request{Header: headers("x-beta", "y")}, "any"},
			{mesh.Request{Method: "shop.v1.Stock/Get"}, "full"},
			{mesh.Request{Method: "shop.v1.Other/Get"}, "default"},
			{mesh.Request{Method: "/shop.v1.Stock/Put"}, "last"},
			{mesh.Request{Method: "shop.v1.Admin/Reset"}, "prefix"},
			{mesh.Request{Source: components.Caller{Namespace: "any", App: "orders"}}, "source"},
			{mesh.Request{Source: components.Caller{Namespace: "shop", App: "pay"}}, "default"},
			{mesh.Request{Source: components.Caller{Namespace: "bank", App: "pay"}}, "namespace"},
			{mesh.Request{Method: "Each"}, "each"},
		} {
			if _, rule := once(t, e, c.r); rule != c.want {
				t.Errorf("%s from %s is ruled by %s, want %s", c.r.Method, c.r.Source, rule, c.want)
			}
		}
	})
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := ruled(t, policies(func(p *mesh.Policies) {
			p.Defaults.Timeout, p.Defaults.Retry.PerTry = 10*time.Second, time.Second
			p.Routes = []mesh.Route{{Service: "stock", Match: mesh.Match{Method: "Get"}, Rule: mesh.Rule{Timeout: 2 * time.Second}}}
		}), mesh.Instance{Address: "a:1"})
		e.Timeout = 30 * time.Second // says nothing where a policy does
		for _, c := range []struct {
			method       string
			caller, want time.Duration
		}{{"", 0, 10 * time.Second}, {"Get", 0, 2 * time.Second}, {"Get", time.Second, 0}, {"Get", 3 * time.Second, 2 * time.Second}} {
			p, err := plan(e, mesh.Request{Method: c.method, Timeout: c.caller})
			if err != nil || p.Timeout() != c.want || p.PerTry() != time.Second {
				t.Errorf("%s from a caller with %v: %v and %v for each attempt, %v; want %v", c.method, c.caller, p.Timeout(), p.PerTry(), err, c.want)
			}
		}
	})
}

func TestRoundRobin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := ruled(t, policies(func(p *mesh.Policies) { p.Defaults.Balance = mesh.RoundRobin }),
			mesh.Instance{Address: "a:1", Weight: 5}, mesh.Instance{Address: "b:1", Weight: 3}, mesh.Instance{Address: "c:1", Weight: 2})
		got := map[string]int{}
		for range 100 {
			address, _ := once(t, e, mesh.Request{})
			got[address]++
		}
		if got["a:1"] != 50 || got["b:1"] != 30 || got["c:1"] != 20 {
			t.Errorf("weights 5, 3, 2 in turn got %v", got)
		}
	})
}

// Calls that all fail are repeated for at most a fifth, as their instances count; with a budget of 0% none is.
func TestRetryBudget(t *testing.T) {
	for budget, bounds := range map[mesh.Percent][2]int{0: {1100, 1200}, mesh.None: {1000, 1000}} {
		repeats(t, budget, bounds[0], bounds[1])
	}
}

func repeats(t *testing.T, budget mesh.Percent, least, most int) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := ruled(t, policies(func(p *mesh.Policies) {
			p.Routes = []mesh.Route{{Service: "stock", Idempotent: true, Rule: mesh.Rule{Retry: mesh.Retry{Budget: budget}}}}
		}), versions...)
		const calls = 1000
		arrived := 0
		for range calls {
			p, err := plan(e, mesh.Request{Protocol: "grpc"})
			if err != nil {
				t.Fatal(err)
			}
			for again := true; again; {
				a, err := p.Next()
				if err != nil {
					t.Fatal(err)
				}
				arrived++
				a.Report(mesh.Answered)
				again = p.Again(mesh.Failure{Kind: mesh.Status, Status: "UNAVAILABLE", Sent: true})
			}
		}
		if arrived > most || arrived < least {
			t.Errorf("%d calls arrived %d times, want %d to %d", calls, arrived, least, most)
		}
	})
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			breaker mesh.Breaker
			most    int
		}{{mesh.Breaker{Service: 4}, 4}, {mesh.Breaker{Instance: 2}, 6}, {mesh.Breaker{Instance: 2, Service: 5}, 5}} {
			e, _ := ruled(t, policies(func(p *mesh.Policies) { p.Defaults.Breaker = c.breaker }), versions...)
			var open []mesh.Attempt
			begin := func() error {
				p, err := plan(e, mesh.Request{})
				if err != nil {
					t.Fatal(err)
				}
				a, err := p.Next()
				if err == nil {
					open = append(open, a)
				}
				return err
			}
			each := map[string]int{}
			for range c.most {
				if err := begin(); err != nil {
					t.Fatalf("%+v: %v after %d calls", c.breaker, err, len(open))
				}
				each[open[len(open)-1].Instance().Address]++
			}
			var d *components.Detail
			if err := begin(); !errors.Is(err, components.ErrExhausted) || !errors.As(err, &d) || d.Reason != mesh.ReasonBreaker {
				t.Errorf("%+v: one call more: %v", c.breaker, err)
			}
			for address, n := range each {
				if c.breaker.Instance > 0 && n > c.breaker.Instance {
					t.Errorf("%+v: %d calls at %s", c.breaker, n, address)
				}
			}
			open[0].Report(mesh.Answered)
			if err := begin(); err != nil {
				t.Errorf("%+v: after one has ended: %v", c.breaker, err)
			}
		}
	})
}

// What is known of an instance is still known when the registry gives it another weight.
func TestAnotherWeightKeepsWhatWasCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s := ruled(t, policies(func(p *mesh.Policies) { p.Defaults.Breaker.Instance = 1 }), mesh.Instance{Address: "a:1", Weight: 7})
		p, err := plan(e, mesh.Request{})
		if err != nil {
			t.Fatal(err)
		}
		a, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		s.set(nil, "a:1") // with a weight of 100
		synctest.Wait()
		if p, err = plan(e, mesh.Request{}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Next(); !errors.Is(err, components.ErrExhausted) {
			t.Errorf("a second call is let through to an instance that may have one: %v", err)
		}
		a.Report(mesh.Answered)
		if address, _ := once(t, e, mesh.Request{}); address != "a:1" {
			t.Errorf("went to %s", address)
		}
	})
}

// An instance that cannot be connected is out of play at once; one that is retried only if nothing else is left.
func TestUnreachableIsOutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := ruled(t, policies(func(*mesh.Policies) {}), mesh.Instance{Address: "dead:1"}, mesh.Instance{Address: "a:1"})
		dead := 0
		for range 100 {
			p, _ := plan(e, mesh.Request{})
			a, _ := p.Next()
			if a.Instance().Address == "dead:1" {
				dead++
				a.Report(mesh.Unreachable)
				continue
			}
			a.Report(mesh.Answered)
		}
		if dead != 1 {
			t.Errorf("%d calls went to an instance that cannot be connected", dead)
		}
	})
}

func TestMigration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := func(m ...mesh.Migration) mesh.Policies { return policies(func(p *mesh.Policies) { p.Migration = m }) }
		both := []mesh.Instance{{Address: "mesh:1"}, {Address: "mesh:2"}, {Address: "app:1", Direct: true}, {Address: "app:2", Direct: true}}
		share := func(e mesh.Engine, n int, header func(int) func(string) string) (viaMesh int) {
			for i := range n {
				r := mesh.Request{}
				if header != nil {
					r.Header = header(i)
				}
				if address, _ := once(t, e, r); strings.HasPrefix(address, "mesh") {
					viaMesh++
				}
			}
			return viaMesh
		}
		e, s := ruled(t, table(mesh.Migration{Service: "stock", Mesh: 1000}), both...)
		if n := share(e, 100_000, nil); n < 9000 || n > 11_000 {
			t.Errorf("10%% of 100000 calls are %d", n)
		}
		for _, c := range []struct {
			m    mesh.Percent
			want int
		}{{0, 0}, {10_000, 1000}} {
			if err := e.Policies.Apply(table(mesh.Migration{Service: "stock", Mesh: c.m}), "shop"); err != nil {
				t.Fatal(err)
			}
			if n := share(e, 1000, nil); n != c.want { // from the first call on
				t.Errorf("%v of 1000 calls are %d", c.m, n)
			}
		}
		user := func(i int) func(string) string { return headers("x-user", fmt.Sprint(i%500)) }
		if err := e.Policies.Apply(table(mesh.Migration{Service: "stock", Mesh: 10_000, Headers: map[string]string{"x-user": "7"}},
			mesh.Migration{Service: "stock", Mesh: 0}), "shop"); err != nil {
			t.Fatal(err)
		}
		if n := share(e, 5000, user); n != 10 {
			t.Errorf("%d of 5000 calls went through the mesh, 10 have the header", n)
		}
		if err := e.Policies.Apply(table(mesh.Migration{Service: "stock", Mesh: 5000, Sticky: "x-user"}), "shop"); err != nil {
			t.Fatal(err)
		}
		if n := share(e, 5000, user); n%10 != 0 || n < 2000 || n > 3000 {
			t.Errorf("%d of 5000 calls by 500 users: some go both ways", n)
		}
		if err := e.Policies.Apply(table(mesh.Migration{Service: "stock", Mesh: 10_000, Instances: []string{"mesh:2"}}), "shop"); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if address, _ := once(t, e, mesh.Request{}); address != "mesh:2" {
				t.Fatalf("a call went to %s", address)
			}
		}
		s.set(nil, "other:1") // a sidecar that takes no part, and no application
		synctest.Wait()
		if n := share(e, 10, nil); n != 0 {
			t.Errorf("%d went through the mesh", n)
		}
	})
}

// What is wrong is said in whole, and nothing of it is applied.
func TestPoliciesAreAppliedWholeOrNotAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := policies(func(p *mesh.Policies) { p.Routes = []mesh.Route{{Name: "good", Service: "stock"}} })
		e, _ := ruled(t, good, mesh.Instance{Address: "a:1"})
		bad := policies(func(p *mesh.Policies) {
			p.Routes = []mesh.Route{
				{Name: "bad", Service: "stock", Split: split(0, 0), Rule: mesh.Rule{Retry: mesh.Retry{On: []string{"sometimes"}, Attempts: 99}}},
				{Service: "a b", Sticky: "X"},
			}
			p.Migration = []mesh.Migration{{Mesh: 100}}
		})
		err := e.Policies.Apply(bad, "shop")
		if !errors.Is(err, components.ErrInvalid) {
			t.Fatalf("got %v", err)
		}
		for _, want := range []string{"routes.0.split", "routes.0.retry.on.0", "routes.0.retry.attempts", "routes.1.service", "routes.1.sticky", "migration.0"} {
			if !strings.Contains(err.Error(), want+":") {
				t.Errorf("%s is not told of:\n%v", want, err)
			}
		}
		if _, rule := once(t, e, mesh.Request{}); rule != "good" {
			t.Errorf("ruled by %s after policies that are refused", rule)
		}
	})
}

// A route that is asked for anew goes where the instances are then.
func TestAnInstanceThatHasGoneIsNotTriedNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			e, s := ruled(t, policies(func(*mesh.Policies) {}), mesh.Instance{Address: "a:1"}, mesh.Instance{Address: "b:1"}, mesh.Instance{Address: "c:1"})
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatal(err)
			}
			a, _ := p.Next()
			a.Report(mesh.Unreachable)
			left := "b:1"
			if a.Instance().Address == left {
				left = "a:1"
			}
			s.set(nil, left)
			synctest.Wait()
			if b, _ := p.Next(); b.Instance().Address != left {
				t.Fatalf("the second attempt went to %s, which has gone", b.Instance().Address)
			}
		}
	})
}

func TestPercent(t *testing.T) {
	for text, want := range map[string]mesh.Percent{"": 0, "0%": mesh.None, "10%": 1000, "0.5%": 50, "100%": 10_000, "33.33%": 3333} {
		var p mesh.Percent
		err := p.UnmarshalText([]byte(text))
		if back, _ := p.MarshalText(); err != nil || p != want || string(back) != text {
			t.Errorf("%s is read as %d (%s), %v", text, p, back, err)
		}
	}
	for _, text := range []string{"%", "10", "-1%", "101%", "NaN%", "1e1%", "0x1%", "ten%", "1_0%", "+1%"} {
		var p mesh.Percent
		if p.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is read as %s", text, p)
		}
	}
}
