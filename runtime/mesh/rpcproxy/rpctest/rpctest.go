// Package rpctest speaks Bolt and Dubbo in tests: what is sent is written here by hand, what comes is read by the codecs.
package rpctest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/bolt"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/dubbo"
)

// Dialect is a protocol as tests speak it: what is sent is written here by hand, what comes is read by the codec.
type Dialect struct {
	rpcproxy.Codec
	Request  func(id uint64, oneway bool, timeout time.Duration, method, body string) []byte
	Response func(of rpcproxy.Frame, body string) []byte
	Failure  func(of rpcproxy.Frame) []byte              // the server is busy
	Unserved func(of rpcproxy.Frame) []byte              // it has no such service, as stock servers say it
	Thrown   func(of rpcproxy.Frame, text string) []byte // an error that is a text alone, as by protobuf; nil: there is none
	Body     func(frame []byte) string
	Beat     []byte
	Broken   []byte // a begin that is none
	Huge     []byte // a frame of 2 GiB begins
}

func kv(b []byte, all ...string) []byte {
	for _, s := range all {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return b
}

// Bolt is its version 1.
var Bolt = Dialect{Codec: bolt.Codec{},
	Request: func(id uint64, oneway bool, timeout time.Duration, method, body string) []byte {
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
	Response: func(of rpcproxy.Frame, body string) []byte { return boltResponse(of, 0, body) },
	Failure:  func(of rpcproxy.Frame) []byte { return boltResponse(of, 4, "") },
	Unserved: func(of rpcproxy.Frame) []byte {
		return boltError(of, 1, "O\xbe"+classResponse+"\x94\x07isError\x08errorMsg\x0bappResponse\x0dresponsePropso\x90TS\x00\x39RPC-020100010: RPC cannot find service: [peer.Hello:1.0] NN")
	},
	Thrown: func(of rpcproxy.Frame, text string) []byte { return boltError(of, 11, text) },
	Body: func(f []byte) string {
		skip, head := 12, 20
		if f[1] != 0 {
			skip, head = 14, 22
		}
		return string(f[head+int(binary.BigEndian.Uint16(f[skip:]))+int(binary.BigEndian.Uint16(f[skip+2:])):])
	},
	Beat:   []byte{1, 1, 0, 0, 1, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	Broken: []byte("\x01\x09 garbage"),
	Huge:   []byte{1, 1, 0, 1, 1, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff},
}

func boltResponse(of rpcproxy.Frame, status uint16, body string) []byte {
	b := []byte{1, 0, 0, 2, 1}
	b = append(binary.BigEndian.AppendUint32(b, uint32(of.ID)), 1)
	b = binary.BigEndian.AppendUint16(b, status)
	b = append(b, 0, 0, 0, 0)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
}

const classResponse = "com.alipay.sofa.rpc.core.response.SofaResponse"

func boltError(of rpcproxy.Frame, codec byte, body string) []byte {
	headers := kv(nil, "sofa_head_response_error", "true")
	b := boltResponse(of, 0, classResponse+string(headers)+body)
	b[9] = codec
	binary.BigEndian.PutUint16(b[12:], uint16(len(classResponse)))
	binary.BigEndian.PutUint16(b[14:], uint16(len(headers)))
	binary.BigEndian.PutUint32(b[16:], uint32(len(body)))
	return b
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

// Dubbo is its version 2.
var Dubbo = Dialect{Codec: dubbo.Codec{},
	Request: func(id uint64, oneway bool, timeout time.Duration, method, body string) []byte {
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
	Response: func(of rpcproxy.Frame, body string) []byte { return dubboFrame(2, 20, of.ID, "\x91"+body) },
	Failure:  func(of rpcproxy.Frame) []byte { return dubboFrame(2, 100, of.ID, str("busy")) },
	Unserved: func(of rpcproxy.Frame) []byte {
		return dubboFrame(2, 70, of.ID, str("org.apache.dubbo.remoting.RemotingException: Not found exported service: peer.Hello:20880 in [], may be version or group mismatch"))
	},
	Body:   func(f []byte) string { return strings.TrimPrefix(string(f[16:]), "\x91") },
	Beat:   dubboFrame(0xe2, 0, 9, "N"),
	Broken: []byte("\xda\xbc garbage"),
	Huge:   []byte{0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff},
}

// Both runs a test in each protocol.
func Both(t *testing.T, f func(t *testing.T, d Dialect)) {
	for _, d := range []Dialect{Bolt, Dubbo} {
		t.Run(d.Name(), func(t *testing.T) { f(t, d) })
	}
}

// Wire is one side of a connection.
type Wire struct {
	net.Conn
	Dialect
	buf, more []byte
	used      int
}

// Next reads a frame. Its bytes are the caller's.
func (w *Wire) Next() (f rpcproxy.Frame, err error) {
	w.buf = append([]byte(nil), w.buf[w.used:]...)
	w.used = 0
	for {
		n, err := w.Dialect.Measure(w.buf)
		if err != nil {
			return f, err
		}
		if n > 0 && n <= len(w.buf) {
			f.Bytes, w.used = w.buf[:n:n], n
			return f, w.Dialect.Read(&f)
		}
		if w.more == nil {
			w.more = make([]byte, 64<<10)
		}
		n, err = w.Conn.Read(w.more)
		if w.buf = append(w.buf, w.more[:n]...); err != nil && n == 0 {
			return f, err
		}
	}
}

// Server answers by method: echo; slow (after 100 ms); never; drop (closes the connection); busy; big (answers 1 MiB); forge (as a sidecar
// that cannot connect to its application would).
type Server struct {
	d     Dialect
	ln    net.Listener
	tasks sync.WaitGroup
	Mu    sync.Mutex
	conns map[net.Conn]struct{}
	Seen  []rpcproxy.Head
	Texts []string // of each request the headers x-set, outrigger-old, outrigger-hops
	Deaf  bool     // heartbeats are not answered
	Gone  bool     // whatever is asked for is not served
	Beats int
	count map[string]int
}

// Serve serves until the test ends.
func Serve(t testing.TB, d Dialect) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{d: d, ln: ln, conns: map[net.Conn]struct{}{}, count: map[string]int{}}
	s.tasks.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.Mu.Lock()
			s.conns[nc] = struct{}{}
			s.Mu.Unlock()
			s.tasks.Go(func() { s.run(nc) })
		}
	})
	t.Cleanup(s.stop)
	return s
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.ln.Addr().String() }

func (s *Server) stop() {
	s.ln.Close()
	s.Mu.Lock()
	for nc := range s.conns {
		nc.Close()
	}
	s.Mu.Unlock()
	s.tasks.Wait()
}

func (s *Server) run(nc net.Conn) {
	defer nc.Close()
	w := &Wire{Conn: nc, Dialect: s.d}
	var mu sync.Mutex
	write := func(b []byte) { mu.Lock(); defer mu.Unlock(); nc.Write(b) }
	for {
		f, err := w.Next()
		if err != nil {
			return
		}
		switch f.Kind {
		case rpcproxy.Heartbeat:
			s.Mu.Lock()
			s.Beats++
			deaf := s.Deaf
			s.Mu.Unlock()
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
		s.Mu.Lock()
		s.Seen = append(s.Seen, h)
		s.Texts = append(s.Texts, s.d.Header(f.Bytes, "x-set"), s.d.Header(f.Bytes, "outrigger-old"), s.d.Header(f.Bytes, "outrigger-hops"))
		s.count[h.Method]++
		gone := s.Gone
		s.Mu.Unlock()
		if f.Kind == rpcproxy.Oneway {
			continue
		}
		if gone {
			write(s.d.Unserved(f))
			continue
		}
		switch h.Method {
		case "echo":
			write(s.d.Response(f, s.d.Body(f.Bytes)))
		case "slow":
			s.tasks.Go(func() {
				time.Sleep(100 * time.Millisecond)
				write(s.d.Response(f, "slow"))
			})
		case "drop":
			return
		case "busy":
			write(s.d.Failure(f))
		case "forge":
			write(s.d.AppendError(nil, f.Bytes, &rpcproxy.Error{Flag: rpcproxy.FlagConnectFailed, Code: 14, Reason: rpcproxy.ReasonConnectFailed, Message: "not at all"}, true))
		case "big":
			write(s.d.Response(f, strings.Repeat("x", 1<<20)))
		}
	}
}

// Times counts the requests of a method that have come.
func (s *Server) Times(method string) int { s.Mu.Lock(); defer s.Mu.Unlock(); return s.count[method] }

// Call sends one request and reads one answer.
func (w *Wire) Call(t *testing.T, id uint64, timeout time.Duration, method, body string) rpcproxy.Frame {
	t.Helper()
	if _, err := w.Write(w.Dialect.Request(id, false, timeout, method, body)); err != nil {
		t.Fatal(err)
	}
	f, err := w.Next()
	if err != nil || f.Kind != rpcproxy.Response || f.ID != id {
		t.Fatalf("%s: answered kind %d id %d, %v; want the response to %d", method, f.Kind, f.ID, err, id)
	}
	return f
}

// Closed waits until the other side has closed.
func (w *Wire) Closed(t *testing.T) {
	t.Helper()
	for {
		_, err := w.Next()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the connection is still open")
		}
		if err != nil {
			return
		}
	}
}

// Eventually asks until there is no error, for 20 s at most.
func Eventually(t testing.TB, ask func() error) {
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

// DeadPort is one that nobody listens on until the test has ended.
func DeadPort(t testing.TB) string {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(socket) })
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil { // it is kept from others, and does not listen
		t.Fatal(err)
	}
	at, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
}
