package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// What does not speak HTTP/2 will not do so when it is called again: its callers are told of that, and not that a connection was lost. A call that
// may be repeated goes to another instance.
func TestGRPCToWhatSpeaksSomethingElse(t *testing.T) {
	says := func(text string) string {
		return rawServer(t, func(nc net.Conn) {
			nc.Read(make([]byte, 1))
			io.WriteString(nc, text)
		})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, done := &http.Server{Handler: http.NotFoundHandler()}, make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() { server.Close(); <-done })
	call := func(o *outbound, headers ...string) (origin string, err error) {
		var trailer metadata.MD
		err = o.conn.Invoke(within(t, 10*time.Second, append(headers, toStock, "stock")...), "/shop.v1.Stock/Check", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{}, grpc.Trailer(&trailer))
		return strings.Join(trailer.Get(proxy.HeaderOrigin), ","), err
	}
	for what, c := range map[string]struct{ address, want string }{
		"HTTP/1.1": {ln.Addr().String(), "it answers in HTTP/1.1"},
		"hasty":    {says("HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n"), "it answers in HTTP/1.1"},
		"HTTP/0.9": {says("<!DOCTYPE HTML>\n<html lang=en>"), "no HTTP/2"},
		"TLS":      {says("\x15\x03\x03\x00\x02\x02\x28"), "no HTTP/2"},
	} {
		t.Run(what, func(t *testing.T) {
			var port int
			fmt.Sscanf(c.address, "127.0.0.1:%d", &port)
			a := startApp(t)
			good := newInbound(t, a.port(), nil).conn.Target()[len("passthrough:///"):]
			behind := newInbound(t, port, nil).conn.Target()[len("passthrough:///"):]
			for origin, first := range map[string]string{"peer": behind, "sidecar": c.address} { // with a sidecar, and without
				o := newOutbound(t, first, good)
				said, err := call(o)
				if st := status.Convert(err); st.Code() != codes.Internal || said != origin || !strings.Contains(st.Message(), c.address+" does not speak gRPC") ||
					!strings.Contains(st.Message(), c.want) || len(st.Details()) != 1 || st.Details()[0].(*errdetails.ErrorInfo).GetReason() != "MALFORMED" {
					t.Errorf("%v %v from %q", err, st.Details(), said)
				}
				o.engine.reported(t, first+" failed")
				if r := o.monitor.all(t, 1)[0]; r.Code != int(codes.Internal) || r.Attempts != 1 {
					t.Errorf("recorded %+v", r)
				}

				o = newOutbound(t, first, good)
				if _, err := call(o, proxy.HeaderIdempotent, "true"); err != nil {
					t.Errorf("a call that may be repeated: %v", err)
				}
				o.engine.reported(t, first+" failed", good+" answered")
				if f := o.engine.failures; len(f) != 1 || f[0].Kind != mesh.Closed || !f[0].Sent {
					t.Errorf("the plan was asked about %+v", f)
				}
			}
		})
	}
}
