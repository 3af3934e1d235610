package runtime_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

// Invoke calls a service by its own protocol, whatever the application's is, and one that is served by both as the call is written.
func TestInvokeGoesByTheProtocolOfTheService(t *testing.T) {
	port := startBoth(t)
	for _, own := range []string{"http", "grpc", "bolt"} {
		t.Run(own, func(t *testing.T) {
			s := start(t, fmt.Sprintf("app: {port: %d, protocol: %s, services: [{name: rpc, protocol: grpc}, {name: web, protocol: http}, {name: both, group: a, protocol: http}, {name: both, group: b, protocol: grpc}, {name: own}]}\n"+
				"registry: {default: {driver: file}}\nmesh: {registry: default}\n", port, own))
			peer := invocationv1.NewInvocationClient(dial(t, s.inbound))
			for _, c := range []struct{ service, method, verb, want string }{
				{"rpc", "shop.v1.Stock/Get", "", "HTTP/2.0 POST /shop.v1.Stock/Get"},
				{"web", "left?of=pens", "GET", "HTTP/1.1 GET /left?of=pens"},
				{"web", "shop.v1.Stock/Get", "", "HTTP/1.1 POST /shop.v1.Stock/Get"},
				{"both", "shop.v1.Stock/Get", "", "HTTP/2.0 POST /shop.v1.Stock/Get"},
				{"both", "shop.v1.Stock/Get", "POST", "HTTP/1.1 POST /shop.v1.Stock/Get"},
				{"both", "left", "", "HTTP/1.1 POST /left"},
				{"own", "a.B/C", "", map[string]string{"http": "HTTP/1.1 POST /a.B/C", "grpc": "HTTP/2.0 POST /a.B/C"}[own]},
			} {
				out, err := peer.Invoke(within(t, 20*time.Second), &invocationv1.InvokeRequest{Service: c.service, Method: c.method, Verb: c.verb})
				if (err != nil) != (c.want == "") || string(out.GetData()) != c.want {
					t.Errorf("%s %s of %s: %q, %v; want %q", c.verb, c.method, c.service, out.GetData(), err, c.want)
				}
			}
		})
	}
}

// startBoth is an application that speaks HTTP/1.1 and gRPC, and answers how it was called.
func startBoth(t *testing.T) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := r.Proto + " " + r.Method + " " + r.URL.String()
		if r.ProtoMajor == 2 {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			defer w.Header().Set("Grpc-Status", "0")
			said = string([]byte{0, 0, 0, 0, byte(len(said))}) + said
		}
		fmt.Fprint(w, said)
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() { server.Close(); <-done })
	return ln.Addr().(*net.TCPAddr).Port
}
