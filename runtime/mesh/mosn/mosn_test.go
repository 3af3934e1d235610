package mosn_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"mosn.io/api"
	"mosn.io/mosn/pkg/protocol/xprotocol/bolt"
	"mosn.io/mosn/pkg/protocol/xprotocol/dubbo"
	"mosn.io/pkg/buffer"
	"mosn.io/pkg/variable"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

// theirs are MOSN's codecs by the names of ours.
var theirs = map[string]api.XProtocol{
	"bolt":  (&bolt.XCodec{}).NewXProtocol(context.Background()),
	"dubbo": (&dubbo.XCodec{}).NewXProtocol(context.Background()),
}

func newContext() context.Context {
	return buffer.NewBufferPoolContext(variable.NewVariableContext(context.Background()))
}

func decode(t *testing.T, d rpctest.Dialect, frame []byte) api.XFrame {
	t.Helper()
	x, err := theirs[d.Name()].Decode(newContext(), buffer.NewIoBufferBytes(bytes.Clone(frame)))
	f, ok := x.(api.XFrame)
	if err != nil || !ok {
		t.Fatalf("MOSN reads %q as %v, %v", frame, x, err)
	}
	return f
}

func header(f api.XFrame, name string) string {
	v, _ := f.GetHeader().Get(name)
	return v
}

func TestMOSNReadsWhatIsSentOn(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		request := d.Request(7, false, 3*time.Second, "echo", "body")
		out, err := d.AppendRequest(nil, request, 9, rpcproxy.Edit{Set: []rpcproxy.Header{{Name: "outrigger-hops", Value: "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		f := decode(t, d, out)
		if f.GetRequestId() != 9 || f.GetStreamType() != api.Request || f.IsHeartbeatFrame() || !bytes.Contains(f.GetData().Bytes(), []byte("body")) {
			t.Errorf("MOSN reads id %d, type %v, body %q", f.GetRequestId(), f.GetStreamType(), f.GetData())
		}
		if d.Name() == "bolt" && (header(f, "outrigger-hops") != "1" || header(f, "sofa_head_method_name") != "echo" || f.GetTimeout() != 3000) {
			t.Errorf("MOSN reads the headers %v", f.GetHeader())
		}
		if d.Name() == "dubbo" && (header(f, "service") != "peer.Hello" || header(f, "method") != "echo") {
			t.Errorf("MOSN reads the headers %v", f.GetHeader())
		}
		e := decode(t, d, d.AppendError(nil, request, &rpcproxy.Error{Code: 14, Message: "why"}, true))
		if e.GetRequestId() != 7 || e.GetStreamType() != api.Response || !bytes.Contains(e.GetData().Bytes(), []byte("why")) {
			t.Errorf("MOSN reads an error as id %d, type %v, body %q", e.GetRequestId(), e.GetStreamType(), e.GetData())
		}
		if beat := decode(t, d, d.AppendHeartbeat(nil, 5)); !beat.IsHeartbeatFrame() || beat.GetRequestId() != 5 {
			t.Errorf("MOSN reads a heartbeat as %+v", beat)
		}
	})
}

func TestWhatMOSNWritesIsRead(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		p := theirs[d.Name()]
		request := decode(t, d, d.Request(7, false, 3*time.Second, "echo", "body"))
		for name, c := range map[string]struct {
			frame api.XFrame
			kind  rpcproxy.Kind
		}{"a request": {request, rpcproxy.Request}, "an error": {p.Hijack(newContext(), request, 14), rpcproxy.Response},
			"a heartbeat": {p.Trigger(newContext(), 7), rpcproxy.Heartbeat}, "its answer": {p.Reply(newContext(), request), rpcproxy.Alive}} {
			if c.frame == nil {
				continue // MOSN writes no heartbeats of Dubbo
			}
			c.frame.SetRequestId(7)
			out, err := p.Encode(newContext(), c.frame)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			f := rpcproxy.Frame{Bytes: out.Bytes()}
			if n, err := d.Measure(f.Bytes); err != nil || n != len(f.Bytes) {
				t.Fatalf("%s of MOSN's has %d bytes, measured as %d, %v", name, len(f.Bytes), n, err)
			}
			if err := d.Read(&f); err != nil || f.Kind != c.kind || f.ID != 7 {
				t.Errorf("%s of MOSN's is read as %+v, %v", name, f, err)
			}
		}
	})
}

// BenchmarkRequest reads a request of 1 KiB, as a sidecar does, and writes it with another id and two headers more.
func BenchmarkRequest(b *testing.B) {
	d := rpctest.Bolt
	raw := d.Request(7, false, time.Second, "echo", string(make([]byte, 1024)))
	set := []rpcproxy.Header{{Name: "outrigger-service", Value: "default/peer.Hello"}, {Name: "outrigger-hops", Value: "1"}}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		var out []byte
		var names rpcproxy.Strings
		for range b.N {
			f := rpcproxy.Frame{Bytes: raw}
			h := rpcproxy.Head{Strings: &names}
			if d.Read(&f) != nil || d.Describe(raw, &h) != nil {
				b.Fatal("not read")
			}
			out, _ = d.AppendRequest(out[:0], raw, 9, rpcproxy.Edit{Strip: "outrigger-", Set: set})
		}
	})
	b.Run("MOSN", func(b *testing.B) {
		b.ReportAllocs()
		p := theirs[d.Name()]
		for range b.N {
			ctx := newContext()
			x, err := p.Decode(ctx, buffer.NewIoBufferBytes(raw))
			if err != nil {
				b.Fatal(err)
			}
			f := x.(api.XFrame)
			for _, h := range set {
				f.GetHeader().Set(h.Name, h.Value)
			}
			f.SetRequestId(9)
			out, err := p.Encode(ctx, f)
			if err != nil {
				b.Fatal(err)
			}
			buffer.PutIoBuffer(out)
			buffer.PoolContext(ctx).Give()
		}
	})
}
