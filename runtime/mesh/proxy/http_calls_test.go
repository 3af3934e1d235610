package proxy_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// asked is an engine that tells what it was asked about.
type asked struct {
	*engine
	what chan string
}

func (a asked) Route(r *mesh.Request) (mesh.Plan, error) {
	a.what <- fmt.Sprint(r.Method, " ", r.Header("x"))
	return a.engine.Route(r)
}

// What is kept for one request is used for the next, which has nothing of the one before: neither its path, which may be as long, nor its headers,
// nor its way past the mesh.
func TestHTTPKeepsNothingOfTheRequestBefore(t *testing.T) {
	app := webApp(t, func(http.ResponseWriter, *http.Request) {})
	m := &monitor{}
	e := asked{&engine{addresses: []string{httpIn(t, app, &mesh.Gate{Concurrency: 9, MaxHops: 16}, &monitor{})}}, make(chan string, 1)}
	addr := httpOut(t, e, m, func(o *proxy.HTTPOutbound) { o.Passthrough = true })
	const requests = 20
	for i := range requests {
		if rp, body := ask(t, addr, "GET http://"+app+"/past HTTP/1.1\r\nHost: other\r\nx: past\r\n\r\n"); rp.StatusCode != 200 || len(e.what) != 0 {
			t.Fatalf("past the mesh: %d %s, the engine was asked %d times", rp.StatusCode, body, len(e.what))
		}
		if rp, body := ask(t, addr, fmt.Sprintf("GET /%04d HTTP/1.1\r\nHost: stock\r\nx: %[1]d\r\n\r\n", i)); rp.StatusCode != 200 || len(e.what) != 1 {
			t.Fatalf("%d: %d %s, the engine was asked %d times", i, rp.StatusCode, body, len(e.what))
		}
		if what, want := <-e.what, fmt.Sprintf("GET /%04d %[1]d", i); what != want {
			t.Errorf("the engine was asked about %q, want %q", what, want)
		}
	}
	told := map[string]int{}
	for _, r := range m.all(t, 2*requests) {
		told[r.Method+" by "+r.Rule]++
	}
	for i := range requests {
		if what := fmt.Sprintf("GET /%04d by turns", i); told[what] != 1 {
			t.Errorf("%s: %d records in %v", what, told[what], told)
		}
	}
	if n := told["GET /past by passthrough"]; n != requests {
		t.Errorf("%d records of what went past the mesh, want %d: %v", n, requests, told)
	}
}
