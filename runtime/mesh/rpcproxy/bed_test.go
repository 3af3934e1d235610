package rpcproxy_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/bolt"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/dubbo"
)

// dialect is a protocol as tests speak it: what is sent is written here by hand, what comes is read by the codec.
type dialect struct {
	rpcproxy.Codec
	request  func(id uint64, oneway bool, timeout time.Duration, method, body string) []byte
	response func(of rpcproxy.Frame, body string) []byte
	failure  func(of rpcproxy.Frame) []byte // the server is busy
	body     func(frame []byte) string
	beat     []byte
	broken   []byte // a begin that is none
	huge     []byte // a frame of 2 GiB begins
}

func kv(b []byte, all ...string) []byte {
	for _, s := range all {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return b
}

var boltDialect = dialect{Codec: bolt.Codec{},
	request: func(id uint64, oneway bool, timeout time.Duration, method, body string) []byte {
		class := "com.alipay.sofa.rpc.core.request.SofaRequest"
		headers := kv(nil, "sofa_head_target_service", "peer.Hello:1.0", "sofa_head_method_name", method, "app", "test")
		b := []byte{1, 1, 0, 1, 1}
		if oneway {
			b[1] = 2
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(id)), 1)
		b = binary.BigEndian.AppendUint32(b, uint32(timeout.Milliseconds()))
		b = binary.BigEndian.AppendUint16(b, uint16(len(class)))
		b = binary.BigEndian.AppendUint16(b, uint16(len(headers)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
		return append(append(append(b, class...), headers...), body...)
	},
	response: func(of rpcproxy.Frame, body string) []byte { return boltResponse(of, 0, body) },
	failure:  func(of rpcproxy.Frame) []byte { return boltResponse(of, 4, "") },
	body: func(f []byte) string {
		skip, head := 12, 20
		if f[1] != 0 {
			skip, head = 14, 22
		}
		return string(f[head+int(binary.BigEndian.Uint16(f[skip:]))+int(binary.BigEndian.Uint16(f[skip+2:])):])
	},
	beat:   []byte{1, 1, 0, 0, 1, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	broken: []byte("\x01\x09 garbage"),
	huge:   []byte{1, 1, 0, 1, 1, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff},
}

func boltResponse(of rpcproxy.Frame, status uint16, body string) []byte {
	b := []byte{1, 0, 0, 2, 1}
	b = append(binary.BigEndian.AppendUint32(b, uint32(of.ID)), 1)
	b = binary.BigEndian.AppendUint16(b, status)
	b = append(b, 0, 0, 0, 0)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
}

func str(s string) string { // of hessian, up to 1023 characters of ASCII
	if len(s) < 32 {
		return string(rune(len(s))) + s
	}
	return string([]byte{0x30 + byte(len(s)>>8), byte(len(s))}) + s
}

func dubboFrame(flags, status byte, id uint64, body string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, flags, status}, id)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
}

var dubboDialect = dialect{Codec: dubbo.Codec{},
	request: func(id uint64, oneway bool, timeout time.Duration, method, body string) []byte {
		flags := byte(0xc2)
		if oneway {
			flags = 0x82
		}
		binary := "B" + string([]byte{byte(len(body) >> 8), byte(len(body))}) + body
		for len(body) > 0xffff {
			binary, body = "A\xff\xff"+body[:0xffff], body[0xffff:]
			binary += "B" + string([]byte{byte(len(body) >> 8), byte(len(body))}) + body
			break
		}
		return dubboFrame(flags, 0, id, str("2.0.2")+str("peer.Hello")+str("0.0.0")+str(method)+str("[B")+binary+
			"H"+str("path")+str("peer.Hello")+str("timeout")+str(fmt.Sprint(timeout.Milliseconds()))+"Z")
	},
	response: func(of rpcproxy.Frame, body string) []byte { return dubboFrame(2, 20, of.ID, "\x91"+body) },
	failure:  func(of rpcproxy.Frame) []byte { return dubboFrame(2, 100, of.ID, str("busy")) },
	body:     func(f []byte) string { return strings.TrimPrefix(string(f[16:]), "\x91") },
	beat:     dubboFrame(0xe2, 0, 9, "N"),
	broken:   []byte("\xda\xbc garbage"),
	huge:     []byte{0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff},
}

// both runs a test in each protocol.
func both(t *testing.T, f func(t *testing.T, d dialect)) {
	for _, d := range []dialect{boltDialect, dubboDialect} {
		t.Run(d.Name(), func(t *testing.T) { f(t, d) })
	}
}

// wire is one side of a connection.
type wire struct {
	net.Conn
	d    dialect
	buf  []byte
	used int
}

// next reads a frame. Its bytes are the caller's.
func (w *wire) next() (f rpcproxy.Frame, err error) {
	w.buf = append([]byte(nil), w.buf[w.used:]...)
	w.used = 0
	for {
		n, err := w.d.Measure(w.buf)
		if err != nil {
			return f, err
		}
		if n > 0 && n <= len(w.buf) {
			f.Bytes, w.used = w.buf[:n:n], n
			return f, w.d.Read(&f)
		}
		more := make([]byte, 64<<10)
		n, err = w.Conn.Read(more)
		if w.buf = append(w.buf, more[:n]...); err != nil && n == 0 {
			return f, err
		}
	}
}

// server answers by method: echo; slow (after 100 ms); never; drop (closes the connection); busy; big (answers 1 MiB).
type server struct {
	d     dialect
	ln    net.Listener
	tasks sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	seen  []rpcproxy.Head
	texts []string // headers that begin with x-
	deaf  bool     // heartbeats are not answered
	beats int
	count map[string]int
}

func serve(t *testing.T, d dialect) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{d: d, ln: ln, conns: map[net.Conn]struct{}{}, count: map[string]int{}}
	s.tasks.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[nc] = struct{}{}
			s.mu.Unlock()
			s.tasks.Go(func() { s.run(nc) })
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *server) addr() string { return s.ln.Addr().String() }

func (s *server) stop() {
	s.ln.Close()
	s.mu.Lock()
	for nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	s.tasks.Wait()
}

func (s *server) run(nc net.Conn) {
	defer nc.Close()
	w := &wire{Conn: nc, d: s.d}
	var mu sync.Mutex
	write := func(b []byte) { mu.Lock(); defer mu.Unlock(); nc.Write(b) }
	for {
		f, err := w.next()
		if err != nil {
			return
		}
		switch f.Kind {
		case rpcproxy.Heartbeat:
			s.mu.Lock()
			s.beats++
			deaf := s.deaf
			s.mu.Unlock()
			if !deaf {
				write(s.d.AppendAlive(nil, &f))
			}
			continue
		case rpcproxy.Request, rpcproxy.Oneway:
		default:
			continue
		}
		var h rpcproxy.Head
		if s.d.Describe(f.Bytes, &h) != nil {
			return
		}
		s.mu.Lock()
		s.seen = append(s.seen, h)
		s.texts = append(s.texts, s.d.Header(f.Bytes, "x-set"), s.d.Header(f.Bytes, "outrigger-old"))
		s.count[h.Method]++
		s.mu.Unlock()
		if f.Kind == rpcproxy.Oneway {
			continue
		}
		switch h.Method {
		case "echo":
			write(s.d.response(f, s.d.body(f.Bytes)))
		case "slow":
			s.tasks.Go(func() {
				time.Sleep(100 * time.Millisecond)
				write(s.d.response(f, "slow"))
			})
		case "drop":
			return
		case "busy":
			write(s.d.failure(f))
		case "big":
			write(s.d.response(f, strings.Repeat("x", 1<<20)))
		}
	}
}

func (s *server) times(method string) int { s.mu.Lock(); defer s.mu.Unlock(); return s.count[method] }

// relay is one with a client's view of it.
type relay struct {
	*rpcproxy.Relay
	t  *testing.T
	d  dialect
	ln net.Listener

	mu        sync.Mutex
	outcomes  []rpcproxy.Outcome
	heads     []rpcproxy.Head
	attempted []string
	faults    []error
}

// start serves a relay whose attempts go to the addresses in turn.
func start(t *testing.T, d dialect, r *rpcproxy.Relay, addresses ...string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out := &relay{Relay: r, t: t, d: d, ln: ln}
	if r.Route == nil {
		ups := make([]*rpcproxy.Upstream, len(addresses))
		for i, a := range addresses {
			ups[i] = r.NewUpstream(a, d, 2, func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", a) })
		}
		r.Route = func(k *rpcproxy.Call) (*rpcproxy.Upstream, error) { return ups[min(k.Attempt, len(ups))-1], nil }
	}
	r.Attempted = func(_ *rpcproxy.Call, up *rpcproxy.Upstream, e *rpcproxy.Error) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.attempted = append(out.attempted, up.Name+" "+e.Flag)
	}
	r.Done = func(o *rpcproxy.Outcome) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.outcomes = append(out.outcomes, *o)
		out.heads = append(out.heads, o.Call.Head)
	}
	r.Fault = func(_ net.Conn, _ bool, err error) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.faults = append(out.faults, err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { r.ServeConn(nc, nil, d) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		r.Close()
		tasks.Wait()
		if s := r.Stats(); s.Held != 0 || s.Calls != 0 {
			t.Errorf("left over: %+v", s)
		}
	})
	return out
}

func (r *relay) dial() *wire {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.ln.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{Conn: nc, d: r.d}
}

// call sends one request and reads one answer.
func (w *wire) call(t *testing.T, id uint64, timeout time.Duration, method, body string) rpcproxy.Frame {
	t.Helper()
	if _, err := w.Write(w.d.request(id, false, timeout, method, body)); err != nil {
		t.Fatal(err)
	}
	f, err := w.next()
	if err != nil || f.Kind != rpcproxy.Response || f.ID != id {
		t.Fatalf("%s: answered kind %d id %d, %v; want the response to %d", method, f.Kind, f.ID, err, id)
	}
	return f
}

// ended waits for n outcomes.
func (r *relay) ended(n int) []rpcproxy.Outcome {
	r.t.Helper()
	var got []rpcproxy.Outcome
	eventually(r.t, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if got = r.outcomes; len(got) != n {
			return fmt.Errorf("%d calls have ended, want %d", len(got), n)
		}
		return nil
	})
	return got
}

func eventually(t *testing.T, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

var errClosed = errors.New("closed")

// closed waits until the other side has closed.
func (w *wire) closed(t *testing.T) {
	t.Helper()
	for {
		_, err := w.next()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the connection is still open")
		}
		if err != nil {
			return
		}
	}
}

func deadPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
