package fastgrpc

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

func TestUnary(t *testing.T) {
	for _, nw := range []string{"tcp", "unix"} {
		each2(t, func(t *testing.T, m string) {
			_, v, cc, _ := start(t, nw, nil)
			for _, n := range []int{0, 1, 100, 1024, 16<<10 - 20, 16 << 10, 17 << 10, 70 << 10, 300 << 10, 3 << 20} {
				b := bytes.Repeat([]byte{byte(n)}, n)
				for range 3 {
					if got, err := unary(context.Background(), cc, m, b); err != nil || !bytes.Equal(got, b) {
						t.Fatal(n, len(got), err)
					}
				}
			}
			if v.fast.Load() != 30 {
				t.Fatal("fast", v.fast.Load())
			}
		})
	}
}

func TestErrors(t *testing.T) {
	each2(t, func(t *testing.T, m string) {
		_, v, cc, _ := start(t, "tcp", nil)
		var tr metadata.MD
		_, err := unary(do("do", "details"), cc, m, nil, grpc.Trailer(&tr))
		s := status.Convert(err)
		if s.Code() != codes.FailedPrecondition || s.Message() != "nicht möglich: 50 %" || len(s.Details()) != 1 || s.Details()[0].(*errdetails.ErrorInfo).Reason != "WHY" || tr.Get("t")[0] != "1" {
			t.Fatal(err, s.Details(), tr)
		}
		if _, err = unary(do("do", "panic"), cc, m, nil); status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
		if _, err = unary(context.Background(), cc, m, make([]byte, 5<<20)); status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
		if err = cc.Invoke(context.Background(), "/t.T/Nope", &msg{}, &msg{}); status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
		if err = cc.Invoke(context.Background(), "/no.Such/Nope", &msg{}, &msg{}); status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
		if err = cc.Invoke(context.Background(), "/t.T/"+m, &healthpb.HealthCheckRequest{Service: "\x08\x96\x01"}, &msg{}); err != nil && status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
		if got, err := unary(do("do", "big"), cc, m, nil); err != nil || len(got) != 10<<20 {
			t.Fatal(len(got), err)
		}
		if v.fast.Load() == 0 {
			t.Fatal("not fast")
		}
	})
}

func TestMetadata(t *testing.T) {
	each2(t, func(t *testing.T, m string) {
		_, _, cc, _ := start(t, "tcp", nil)
		for range 5 {
			var h, tr metadata.MD
			if _, err := unary(do("do", "md", "q", "v1", "q", "v2", "raw-bin", "\x00\x01\xfe"), cc, m, nil, grpc.Header(&h), grpc.Trailer(&tr)); err != nil {
				t.Fatal(err)
			}
			if h.Get("h")[0] != "v1,v2" || h.Get("h-bin")[0] != "\x00\x01\xfe" || h.Get("auth")[0] == "" || h.Get("peer")[0] != "tcp" || strings.Join(tr.Get("t"), ",") != "a,b" || tr.Get("t-bin")[0] != "\x00\xff" {
				t.Fatal(h, tr)
			}
		}
	})
}

func TestDeadlineAndCancel(t *testing.T) {
	_, v, cc, _ := start(t, "tcp", nil)
	ended := func() int64 { return v.late.Load() + v.cancelled.Load() }
	ctx, cancel := context.WithTimeout(do("do", "hang"), time.Second)
	_, err := unary(ctx, cc, "Block", nil)
	cancel()
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	eventually(t, "deadline in the handler", func() bool { return ended() == 1 })
	call := func(ctx context.Context) (failed chan error) {
		t.Helper()
		before := v.hung.Load()
		failed = make(chan error, 1)
		go func() {
			_, err := unary(ctx, cc, "Block", nil)
			failed <- err
		}()
		eventually(t, "the call runs", func() bool { return v.hung.Load() > before })
		return failed
	}
	for i, d := range []string{"hang", "child"} {
		ctx, cancel = context.WithCancel(do("do", d))
		failed := call(ctx)
		cancel()
		if err := <-failed; status.Code(err) != codes.Canceled {
			t.Fatal(err)
		}
		eventually(t, "cancelled "+d, func() bool { return ended() == int64(i+2) })
	}
	failed := call(do("do", "hang"))
	cc.Close() // the connection goes
	<-failed
	eventually(t, "lost", func() bool { return ended() == 4 })
}

func TestCompression(t *testing.T) {
	each2(t, func(t *testing.T, m string) {
		_, v, cc, addr := start(t, "tcp", nil)
		b := bytes.Repeat([]byte("abc"), 1000)
		got, err := unary(context.Background(), cc, m, b, grpc.UseCompressor(gzip.Name))
		if err != nil || !bytes.Equal(got, b) || v.fast.Load() != 0 {
			t.Fatal(len(got), err)
		}
		// an encoding nobody knows, and a compressed message without one
		for enc, want := range map[string]string{"snoppy": "12", "": "13"} {
			st := raw(t, addr, "/t.T/"+m, enc, []byte{1, 0, 0, 0, 2, 8, 1}, true)
			if st["grpc-status"] != want {
				t.Fatal(enc, st)
			}
		}
		for body, want := range map[string]string{"": "13", "\x00\x00\x00\x00\x00": "0", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": "13", "\x00\x00\x00\x00\x09x": "13", "\x00\xff\xff\xff\xff": "8", "\x00\x00\x00\x00\x02\x0a\x09": "13"} {
			if st := raw(t, addr, "/t.T/"+m, "", []byte(body), false); st["grpc-status"] != want {
				t.Fatalf("%q %v", body, st)
			}
			if st := raw(t, addr, "/t.T/"+m, "", []byte(body), true); st["grpc-status"] != want {
				t.Fatalf("split %q %v", body, st)
			}
		}
	})
}

// raw sends a request by frames, in pieces of one byte if split, and returns the last header list.
func raw(t *testing.T, addr, path, enc string, body []byte, split bool) map[string]string {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(nc, http2.ClientPreface)
	f := http2.NewFramer(nc, nc)
	f.WriteSettings()
	var hb bytes.Buffer
	e := hpack.NewEncoder(&hb)
	kv := []string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "a", "content-type", "application/grpc", "te", "trailers"}
	if enc != "" {
		kv = append(kv, "grpc-encoding", enc)
	}
	for i := 0; i < len(kv); i += 2 {
		e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: hb.Bytes(), EndHeaders: true})
	if split {
		for i := range body {
			time.Sleep(time.Millisecond)
			f.WriteData(1, false, body[i:i+1])
		}
		f.WriteData(1, true, nil)
	} else {
		f.WriteData(1, true, body)
	}
	out := map[string]string{}
	d := hpack.NewDecoder(4096, func(h hpack.HeaderField) { out[h.Name] = h.Value })
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.HeadersFrame:
			d.Write(fr.HeaderBlockFragment())
			if fr.StreamEnded() {
				return out
			}
		case *http2.RSTStreamFrame:
			t.Fatal(fr)
		}
	}
}

func TestStreamsHealthReflection(t *testing.T) {
	_, _, cc, _ := start(t, "tcp", nil)
	ctx := context.Background()
	if r, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatal(err)
	}
	if w, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	} else if r, err := w.Recv(); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatal(err)
	}
	rs, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rs.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	r, err := rs.Recv()
	if err != nil || len(r.GetListServicesResponse().GetService()) < 2 {
		t.Fatal(r, err)
	}
	ss, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/t.T/Echo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := ss.SendMsg(&msg{Value: make([]byte, i*1000)}); err != nil {
			t.Fatal(err)
		}
		var m msg
		if err := ss.RecvMsg(&m); err != nil || len(m.Value) != i*1000 {
			t.Fatal(i, err)
		}
	}
	ss.CloseSend()
	if err := ss.RecvMsg(&msg{}); err != io.EOF {
		t.Fatal(err)
	}
}
