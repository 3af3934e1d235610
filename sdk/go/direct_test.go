package client_test

import (
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// A setting that cannot be meant is told of at once.
func TestDirectFaults(t *testing.T) {
	for _, text := range []string{"stock", "=127.0.0.1:1", "stock=here", "stock=127.0.0.1:1,unix:/x"} {
		if c, err := client.Dial(within(t), client.WithDirect(text)); err == nil {
			c.Close()
			t.Errorf("%q is taken", text)
		}
	}
}

// A call that the sidecar sent to nobody goes directly, and one that it passed on does not, whatever became of it.
func TestDirectWhereTheSidecarKnowsNobody(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		calls++
		return s.SendMsg(wrapperspb.String("directly"))
	}))
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	w := newWorld()
	c := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target), client.WithDirect("nobody="+ln.Addr().String()+" stock="+ln.Addr().String()))
	var out wrapperspb.StringValue
	for i, one := range []struct{ service, item, want string }{{"stock", "pens", "7 of pens"}, {"nobody", "pens", "directly"}} {
		if err := c.Conn(one.service).Invoke(within(t), left, wrapperspb.String(one.item), &out); err != nil || out.GetValue() != one.want || calls != i {
			t.Errorf("%s: %q, %v; %d calls came directly", one.service, out.GetValue(), err, calls)
		}
	}
	for _, item := range []string{"anvil", "lost"} {
		if err := c.Conn("stock").Invoke(within(t), left, wrapperspb.String(item), &out); err == nil || calls != 1 {
			t.Errorf("%s: what the application refused was called directly, too: %v, %d calls", item, err, calls)
		}
	}
}
