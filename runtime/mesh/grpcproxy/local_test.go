package grpcproxy

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzLocal throws bytes at a connection whose calls are answered here.
func FuzzLocal(f *testing.F) {
	var c raw
	c.enc.init()
	req := func(b []byte, id uint32, path string) []byte {
		at := len(b)
		b = appendFrame(b, 0, fHeaders, flagEndHeaders, id)
		for _, kv := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {"content-type", "application/grpc"}} {
			f := newField(kv[0], kv[1])
			b = c.enc.field(b, &f)
		}
		n := len(b) - at - frameHeader
		b[at+1], b[at+2] = byte(n>>8), byte(n)
		return b
	}
	msg := []byte{0, 0, 0, 0, 2, 'a', 'b'}
	one := func(path string) []byte {
		b := req(appendSettings(nil, setWindow, 9), 1, path)
		b = append(appendFrame(b, 7, fData, flagEnd, 1), msg...)
		b = req(b, 3, path)
		b = req(b, 5, path)
		b = append(appendFrame(b, 3, fData, 0, 3), msg[:3]...)
		b = append(appendFrame(b, 7, fData, flagEnd, 5), msg...)
		b = append(appendFrame(b, 4, fData, flagEnd, 3), msg[3:]...)
		return appendU32(appendU32(appendU32(b, fWindow, 1, 100), fWindow, 0, 100), fReset, 5, 8)
	}
	for _, p := range []string{"/i", "/b", "/w", "/l", "/n"} {
		f.Add(one(p), uint8(0))
		f.Add(one(p), uint8(20))
	}
	f.Fuzz(func(t *testing.T, down []byte, cut uint8) {
		r := &Relay{MaxWorkers: 2}
		h := func(_ context.Context, req, resp []byte) ([]byte, *Status) { return append(resp, req...), nil }
		r.Unary("/i", Method{Handler: h})
		r.Unary("/b", Method{Handler: h, Blocking: true, MaxRequest: 100})
		r.Unary("/w", Method{Handler: func(context.Context, []byte, []byte) ([]byte, *Status) { return nil, WouldBlock }, Slow: h})
		r.Unary("/l", Method{Handler: func(ctx context.Context, _, resp []byte) ([]byte, *Status) {
			end := FromContext(ctx).Later()
			go end(empty)
			return resp, AnswerLater
		}})
		r.Route = func(*Headers) (*Upstream, error) { return nil, io.EOF }
		a, b := net.Pipe()
		go io.Copy(io.Discard, b)
		ended := make(chan struct{})
		go func() { r.ServeConn(a); close(ended) }()
		k := min(int(cut), len(down))
		b.Write(append([]byte(preface), down[:k]...))
		b.Write(down[k:])
		time.Sleep(time.Millisecond)
		b.Close()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatal("hangs")
		}
		time.Sleep(time.Millisecond)
		if n := r.held.Load(); n != 0 {
			t.Fatal("held ", n)
		}
		r.Close()
	})
}
