package mesh

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
)

// wire is a protocol written by hand, or with its own library, so that tests see each attempt.
type wire struct {
	protocol string
	serve    func(a *answering, ln net.Listener)
	client   func(t *testing.T, address string) func(method string) error
}

const askedService = "peer.Hello"

var wires = wiresOf(askedService)

// wiresOf are those whose clients ask for a service.
func wiresOf(service string) []wire {
	framed := func(protocol string, p framed) wire {
		return wire{protocol, func(a *answering, ln net.Listener) { serveFrames(a, ln, p) }, func(t *testing.T, at string) func(string) error { return askFrames(t, at, p) }}
	}
	return []wire{
		{"http", serveHTTPAnswers, func(t *testing.T, at string) func(string) error { return askHTTP(t, at, service) }},
		{"grpc", serveGRPCAnswers, func(t *testing.T, at string) func(string) error { return askGRPC(t, at, service) }},
		framed("bolt", boltOf(service)), framed("dubbo", dubboOf(service)),
	}
}

func serveHTTPAnswers(a *answering, ln net.Listener) {
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := strings.TrimPrefix(r.URL.Path, "/")
		if !a.asked(method, r.Context().Done()) {
			panic(http.ErrAbortHandler)
		}
		if method == "busy" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, method)
	}))
}

func askHTTP(t *testing.T, address, service string) func(string) error {
	c := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	return func(method string) error {
		req, err := http.NewRequest(http.MethodPost, "http://"+address+"/"+method, http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("outrigger-service", service)
		res, err := c.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s: %s", res.Status, res.Header.Get("outrigger-reason"), text)
		}
		return err
	}
}

type grpcAnswers struct {
	echopb.UnimplementedEchoServer
	a *answering
}

func (g grpcAnswers) Unary(ctx context.Context, in *echopb.Message) (*echopb.Message, error) {
	if !g.a.asked(in.GetText(), ctx.Done()) || in.GetText() == "busy" {
		return nil, status.Error(codes.Unavailable, in.GetText())
	}
	return in, nil
}

func serveGRPCAnswers(a *answering, ln net.Listener) {
	s := grpc.NewServer()
	echopb.RegisterEchoServer(s, grpcAnswers{a: a})
	s.Serve(ln)
}

func askGRPC(t *testing.T, address, service string) func(string) error {
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return func(method string) error {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "outrigger-service", service), patience)
		defer cancel()
		_, err := echopb.NewEchoClient(cc).Unary(ctx, &echopb.Message{Text: method})
		for _, d := range status.Convert(err).Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				return fmt.Errorf("%s: %w", info.GetReason(), err)
			}
		}
		return err
	}
}

// framed is Bolt or Dubbo, as much as is needed of it.
type framed struct {
	head    func(first []byte) (head int, length func([]byte) int)
	id      int // where it stands, in four bytes
	request func(id uint32, method string) []byte
	method  func(frame []byte) string                  // "" if it is no request
	answer  func(request []byte, method string) []byte // also to a heartbeat
	failure func(answer []byte) error
}

func (p framed) read(in *bufio.Reader) ([]byte, error) {
	first, err := in.Peek(4)
	if err != nil {
		return nil, err
	}
	head, length := p.head(first)
	h, err := in.Peek(head)
	if err != nil {
		return nil, err
	}
	frame := make([]byte, head+length(h))
	_, err = io.ReadFull(in, frame)
	return frame, err
}

func serveFrames(a *answering, ln net.Listener, p framed) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer nc.Close()
			var mu sync.Mutex
			in, gone := bufio.NewReader(nc), make(chan struct{})
			defer close(gone)
			for {
				frame, err := p.read(in)
				if err != nil {
					return
				}
				go func() {
					method := p.method(frame)
					if method != "" && !a.asked(method, gone) {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					nc.Write(p.answer(frame, method))
				}()
			}
		}()
	}
}

// askFrames calls one at a time on a connection, and on another one when that has ended.
func askFrames(t *testing.T, address string, p framed) func(string) error {
	var nc net.Conn
	var in *bufio.Reader
	var id uint32
	t.Cleanup(func() {
		if nc != nil {
			nc.Close()
		}
	})
	return func(method string) (err error) {
		if nc == nil {
			if nc, err = net.Dial("tcp", address); err != nil {
				nc = nil
				return err
			}
			in = bufio.NewReader(nc)
		}
		defer func() {
			if nc != nil && in == nil {
				nc.Close()
				nc = nil
			}
		}()
		id++
		nc.SetDeadline(time.Now().Add(patience))
		if _, err := nc.Write(p.request(id, method)); err != nil {
			in = nil
			return err
		}
		for {
			frame, err := p.read(in)
			if err != nil {
				in = nil
				return err
			}
			if binary.BigEndian.Uint32(frame[p.id:]) == id {
				return p.failure(frame)
			}
		}
	}
}

func lengthPrefixed(all ...string) (b []byte) {
	for _, s := range all {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return b
}

var boltWire, dubboWire = boltOf(askedService), dubboOf(askedService)

func boltOf(service string) framed {
	return framed{
		head: func(first []byte) (int, func([]byte) int) {
			head := 20 // of an answer, and two more of a request
			if first[1] != 0 {
				head = 22
			}
			return head, func(h []byte) int {
				lengths := h[head-8:]
				return int(binary.BigEndian.Uint16(lengths)) + int(binary.BigEndian.Uint16(lengths[2:])) + int(binary.BigEndian.Uint32(lengths[4:]))
			}
		},
		id: 5,
		request: func(id uint32, method string) []byte {
			const class = "com.alipay.sofa.rpc.core.request.SofaRequest"
			headers := lengthPrefixed("sofa_head_target_service", service+":1.0", "sofa_head_method_name", method)
			b := binary.BigEndian.AppendUint32([]byte{1, 1, 0, 1, 1}, id)
			b = binary.BigEndian.AppendUint32(append(b, 1), uint32(patience.Milliseconds()))
			b = binary.BigEndian.AppendUint16(b, uint16(len(class)))
			b = binary.BigEndian.AppendUint16(b, uint16(len(headers)))
			b = binary.BigEndian.AppendUint32(b, 0)
			return append(append(b, class...), headers...)
		},
		method: func(frame []byte) string {
			if frame[3] != 1 {
				return ""
			}
			headers := frame[22+int(binary.BigEndian.Uint16(frame[14:])):]
			_, after, _ := strings.Cut(string(headers), "sofa_head_method_name")
			return after[4 : 4+binary.BigEndian.Uint32([]byte(after))]
		},
		answer: func(request []byte, method string) []byte {
			b := []byte{1, 0, 0, 2, 1, request[5], request[6], request[7], request[8], 1, 0, 0}
			if method == "" {
				b[3] = 0
			} else if method == "busy" {
				b[11] = 4
			}
			return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		},
		failure: func(answer []byte) error {
			if status := binary.BigEndian.Uint16(answer[10:]); status != 0 || len(answer) > 20 {
				return fmt.Errorf("status %d: %q", status, answer[20:])
			}
			return nil
		},
	}
}

// hessian is a string of ASCII, as Dubbo writes them.
func hessian(s string) string {
	if len(s) < 32 {
		return string(rune(len(s))) + s
	}
	return string([]byte{0x30 + byte(len(s)>>8), byte(len(s))}) + s
}

func dubboRequest(id uint32, service, version, method string) []byte {
	body := hessian("2.0.2") + hessian(service) + hessian(version) + hessian(method) + hessian("") +
		"H" + hessian("path") + hessian(service) + hessian("timeout") + hessian(fmt.Sprint(patience.Milliseconds())) + "Z"
	b := binary.BigEndian.AppendUint32([]byte{0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0}, id)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
}

func dubboOf(service string) framed {
	return framed{
		head: func([]byte) (int, func([]byte) int) {
			return 16, func(h []byte) int { return int(binary.BigEndian.Uint32(h[12:])) }
		},
		id:      8,
		request: func(id uint32, method string) []byte { return dubboRequest(id, service, "0.0.0", method) },
		method: func(frame []byte) string {
			if frame[2]&0x20 != 0 {
				return ""
			}
			rest, text := frame[16:], []byte(nil)
			for range 4 {
				n, head := int(rest[0]), 1
				if n >= 0x30 {
					n, head = (n-0x30)<<8+int(rest[1]), 2
				}
				text, rest = rest[head:head+n], rest[head+n:]
			}
			return string(text)
		},
		answer: func(request []byte, method string) []byte {
			flags, status, body := byte(0x02), byte(20), "\x91"+hessian(method)
			if method == "" {
				flags, body = 0x22, "N"
			} else if method == "busy" {
				status, body = 100, hessian(method)
			}
			b := append([]byte{0xda, 0xbb, flags, status}, request[4:12]...)
			return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
		},
		failure: func(answer []byte) error {
			if answer[3] != 20 {
				return fmt.Errorf("status %d: %q", answer[3], answer[16:])
			}
			return nil
		},
	}
}

var errNoFailure = errors.New("no error")
