package integration

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
)

// TestFloods does to the API's and the inbound port what clients do that want to bring a server down.
func TestFloods(t *testing.T) {
	p := newPair(t)
	for _, port := range []struct{ name, address string }{{"api", p.caller.GRPC}, {"inbound", p.callee.Inbound}} {
		for _, flood := range []struct {
			name string
			send func(f *http2.Framer, headers []byte) error
		}{
			{"rapid reset", rapidReset},
			{"resets that are provoked", provokedReset},
			{"CONTINUATION without end", endlessHeaders},
			{"SETTINGS without end", func(f *http2.Framer, _ []byte) error { return f.WriteSettings() }},
			{"PING without end", func(f *http2.Framer, _ []byte) error { return f.WritePing(false, [8]byte{}) }},
		} {
			t.Run(port.name+"/"+flood.name, func(t *testing.T) {
				before := p.caller.RSS() + p.callee.RSS()
				closes(t, port.address, flood.send)
				if _, err := p.echo.Unary(within(t, 20*time.Second), &echopb.Message{}); err != nil {
					t.Fatalf("after it nothing goes: %v", err)
				}
				if grown := p.caller.RSS() + p.callee.RSS() - before; grown > 64<<20 {
					t.Fatalf("it cost %d MiB", grown>>20)
				}
			})
		}
	}
}

// closes floods until the connection is closed, which must be soon.
func closes(t *testing.T, address string, send func(*http2.Framer, []byte) error) {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, nc)
		close(ended)
	}()
	nc.SetWriteDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	f := http2.NewFramer(&out, nil)
	f.WriteSettings()
	headers := request(t)
	for range 200_000 {
		for out.Len() < 16<<10 && err == nil {
			err = send(f, headers)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.WriteTo(nc); err != nil {
			break
		}
		select {
		case <-ended:
			return
		default:
		}
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the connection is still open")
	}
}

func request(t *testing.T) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/integration.echo.v1.Echo/Unary"}, {":authority", "echo"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"outrigger-service", "echo"}} {
		if err := e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	return block.Bytes()
}

// nextStream counts the streams of all floods: each connection may begin anywhere.
var nextStream uint32 = 1

func rapidReset(f *http2.Framer, headers []byte) error {
	id := nextStream
	nextStream += 2
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers, EndHeaders: true}); err != nil {
		return err
	}
	return f.WriteRSTStream(id, http2.ErrCodeCancel)
}

// provokedReset has the sidecar reset a stream, by a window that is opened by nothing.
func provokedReset(f *http2.Framer, headers []byte) error {
	id := nextStream
	nextStream += 2
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers, EndHeaders: true}); err != nil {
		return err
	}
	return f.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
}

func endlessHeaders(f *http2.Framer, headers []byte) error {
	const first = 1 << 30 // beyond the streams of the other floods
	if id := uint32(first + 1); !begun[f] {
		begun[f] = true
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers})
	}
	return f.WriteContinuation(first+1, false, fmt.Appendf(nil, "\x00\x03x-a\x03%03d", len(begun)))
}

var begun = map[*http2.Framer]bool{}
