package grpcproxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestOnConn(t *testing.T) {
	closed := make(chan any, 9)
	e := newEnv(t, func(r *Relay) {
		r.OnConn = func(nc net.Conn) (any, error) { return nc.RemoteAddr().String(), nil }
		r.OnClose = func(_ net.Conn, tag any) { closed <- tag }
	})
	route := e.r.Route
	e.r.Route = func(h *Headers) (*Upstream, error) {
		if h.ConnTag != h.Conn.RemoteAddr().String() {
			return nil, errors.New("no tag")
		}
		return route(h)
	}
	if _, err := unary(do(), e.cc, nil); err != nil {
		t.Fatal(err)
	}
	e.outcome(func(o Outcome) bool { return o.ConnTag != nil })
	e.cc.Close()
	if tag := <-closed; tag == nil {
		t.Fatal("no tag")
	}
}

func TestOnConnRefuses(t *testing.T) {
	for name, want := range map[string]struct {
		err    error
		code   codes.Code
		reason string
	}{
		"plain": {errors.New("not you"), codes.PermissionDenied, ReasonDenied},
		"told":  {&Error{Code: int(codes.Unauthenticated), Message: "who are you?", Reason: "NO_IDENTITY"}, codes.Unauthenticated, "NO_IDENTITY"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, func(r *Relay) {
				r.OnConn = func(net.Conn) (any, error) { return nil, want.err }
				r.Unary("/test.Echo/Local", Method{})
			})
			for range 3 {
				for _, path := range []string{"/test.Echo/Unary", "/test.Echo/Local"} {
					err := e.cc.Invoke(do(), path, &msg{}, &msg{})
					if status.Code(err) != want.code || reason(err) != want.reason {
						t.Fatal(path, err)
					}
				}
			}
			e.outcome(func(o Outcome) bool { return o.Flag == FlagDenied && o.Upstream == nil })
			if e.live.Load() != 0 {
				t.Fatal("routed")
			}
			c := rawClient(t, e.addr) // one who does not take no for an answer
			go func() {
				for i := range uint32(2 * refusedCalls) {
					if c.write(c.appendRequest(nil, 2*i+1, true)) != nil {
						return
					}
				}
			}()
			c.goAway(codeCalm)
			e.empty()
		})
	}
}

// One port for several protocols: a dispatcher has read what the relay then needs.
func TestPrefixed(t *testing.T) {
	for _, n := range []int{0, 1, len(preface), len(preface) + 3, 1 << 20} {
		e := newEnv(t, nil)
		ln := listen(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			nc, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			head := make([]byte, n)
			if n > 0 {
				k, _ := io.ReadAtLeast(nc, head, min(n, len(preface)+1)) // frames, the last one cut perhaps
				head = head[:k]
			}
			e.r.ServeConn(Prefixed(Prefixed(nc, head[len(head)/2:]), head[:len(head)/2]))
		}()
		cc := client(t, ln.Addr().String())
		for range 20 {
			if got, err := unary(do(), cc, make([]byte, 50<<10)); err != nil || len(got) != 50<<10 {
				t.Fatal(n, err)
			}
		}
		cc.Close()
		<-done
		ln.Close()
	}
	a, b := net.Pipe()
	defer a.Close()
	go b.Write([]byte("cd"))
	p := Prefixed(a, []byte("ab"))
	got := make([]byte, 4)
	if _, err := io.ReadFull(p, got); err != nil || string(got) != "abcd" {
		t.Fatal(err, string(got))
	}
}

// A prefix under TLS: the dispatcher has read the first bytes of the handshake.
func TestPrefixedTLS(t *testing.T) {
	e := newEnv(t, nil)
	conf := newTLS(t)
	ln := listen(t)
	defer ln.Close()
	inlined := make(chan bool, 1)
	route := e.r.Route
	e.r.Route = func(h *Headers) (*Upstream, error) {
		select {
		case inlined <- h.c.inl != nil && h.TLS() != nil && h.TLS().NegotiatedProtocol == "h2":
		default:
		}
		return route(h)
	}
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		head := make([]byte, 5)
		io.ReadFull(nc, head)
		e.r.ServeConn(tls.Server(Inline(Prefixed(nc, head)), conf))
	}()
	cc := client(t, ln.Addr().String(), grpc.WithTransportCredentials(clientTLS(conf)))
	defer cc.Close()
	if got, err := unary(do(), cc, make([]byte, 1<<20)); err != nil || len(got) != 1<<20 {
		t.Fatal(err)
	}
	if !<-inlined {
		t.Fatal("not written inline")
	}
}

// Client certificates arrive at Route.
func TestMutualTLS(t *testing.T) {
	e := newEnv(t, nil)
	conf := newTLS(t)
	server := conf.Clone()
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, conf.RootCAs
	route := e.r.Route
	e.r.Route = func(h *Headers) (*Upstream, error) {
		if s := h.TLS(); s == nil || len(s.VerifiedChains) == 0 || s.PeerCertificates[0].Subject.CommonName != "test" {
			return nil, errors.New("no certificate")
		}
		return route(h)
	}
	e.r.OnConn = func(nc net.Conn) (any, error) {
		return nc.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	ln := listen(t)
	defer ln.Close()
	go e.r.Serve(tls.NewListener(inlineListener{ln}, server))
	cc := client(t, ln.Addr().String(), grpc.WithTransportCredentials(clientTLS(conf)))
	defer cc.Close()
	if _, err := unary(do(), cc, nil); err != nil {
		t.Fatal(err)
	}
	e.outcome(func(o Outcome) bool { return o.ConnTag == "test" })
	anonymous := conf.Clone()
	anonymous.Certificates = nil
	cc2 := client(t, ln.Addr().String(), grpc.WithTransportCredentials(clientTLS(anonymous)))
	defer cc2.Close()
	if _, err := unary(do(), cc2, nil); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
}
