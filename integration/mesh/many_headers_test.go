package mesh

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const manyHeaders = 100_000

// TestManyHeadersAreRefused: a request with 100,000 headers gets to no application, at either port, and disturbs nobody. Bolt has no room for as many.
func TestManyHeadersAreRefused(t *testing.T) {
	t.Log("feature: http grpc dubbo, a request with 100,000 headers is refused")
	b := newAllBed(t)
	l, ended := b.steady()
	for _, port := range []string{b.consumer.Outbound, b.provider.Inbound} {
		for protocol, send := range map[string]func(nc net.Conn) (said string, err error){"http": manyOfHTTP, "grpc": manyOfGRPC, "dubbo": manyOfDubbo} {
			nc, err := net.Dial("tcp", port)
			if err != nil {
				t.Fatal(err)
			}
			nc.SetDeadline(time.Now().Add(20 * time.Second))
			said, err := send(nc)
			if err != nil || said != map[string]string{"http": "HTTP/1.1 431", "grpc": "ENHANCE_YOUR_CALM", "dubbo": "more than 10000 attachments"}[protocol] {
				t.Errorf("%s: %q, %v", protocol, said, err)
			}
			nc.Close()
		}
	}
	l.more(50)
	if n := ended(); n != 0 {
		t.Errorf("%d connections of others ended", n)
	}
	for i, a := range b.apps {
		if n := a.times("many"); n != 0 {
			t.Errorf("%s: %d of them came to the application", b.wires[i].protocol, n)
		}
	}
}

func manyOfHTTP(nc net.Conn) (status string, err error) {
	go fmt.Fprint(nc, "POST /many HTTP/1.1\r\nHost: peer.HTTP\r\n", strings.Repeat("a: b\r\n", manyHeaders), "Content-Length: 0\r\n\r\n") // it need not read all
	line, err := bufio.NewReader(nc).ReadString('\n')
	return line[:min(len(line), len("HTTP/1.1 431"))], err
}

// manyOfGRPC answers how the call has ended: by a code of HTTP/2, or its status.
func manyOfGRPC(nc net.Conn) (status string, err error) {
	var fields bytes.Buffer
	e := hpack.NewEncoder(&fields)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/peer.GRPC/many"}, {":authority", "peer.GRPC"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for range manyHeaders {
		e.WriteField(hpack.HeaderField{Name: "a", Value: "b"})
	}
	var sent bytes.Buffer
	sent.WriteString(http2.ClientPreface)
	w := http2.NewFramer(&sent, nil)
	w.WriteSettings()
	for first := true; fields.Len() > 0; first = false {
		part := fields.Next(16 << 10)
		if first {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: part})
		} else {
			w.WriteContinuation(1, fields.Len() == 0, part)
		}
	}
	w.WriteData(1, true, make([]byte, 5))
	go nc.Write(sent.Bytes())
	r := http2.NewFramer(nc, nc)
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := r.ReadFrame()
		if err != nil {
			return "", err
		}
		switch f := frame.(type) {
		case *http2.RSTStreamFrame:
			return f.ErrCode.String(), nil
		case *http2.GoAwayFrame:
			return f.ErrCode.String(), nil
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				if h.Name == "grpc-status" {
					return h.Value, nil
				}
			}
		}
	}
}

func manyOfDubbo(nc net.Conn) (said string, err error) {
	body := hessian("2.0.2") + hessian("peer.DUBBO") + hessian("0.0.0") + hessian("many") + hessian("") + "H" + strings.Repeat(hessian("a")+hessian("b"), manyHeaders) + "Z"
	sent := binary.BigEndian.AppendUint32([]byte{0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 1}, uint32(len(body)))
	go nc.Write(append(sent, body...))
	answer, err := dubboWire.read(bufio.NewReader(nc))
	const refusal = "more than 10000 attachments"
	if err != nil || bytes.Contains(answer, []byte(refusal)) {
		return refusal, err
	}
	return "", errors.Join(fmt.Errorf("answered %.100q", answer), dubboWire.failure(answer))
}
