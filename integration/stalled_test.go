package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const (
	stalledWatchers = 50 // half of them on one connection that is read, half on connections of their own that are not
	stalledStreams  = 10 // of calls through both sidecars
	changes         = 100
	changeSize      = 512 << 10 // 50 MiB in all, for each watcher

	// What both sidecars may grow by, however much is sent. A watcher that has stalled holds two values and two messages of them, in
	// buffers of powers of two, and 256 KiB in the relay: 4 MiB here. The garbage collector takes as much again.
	stalledMost = (stalledWatchers + stalledStreams) * 20 * changeSize
)

// TestWatchersThatStopReading cost bounded memory, and nobody else notices them.
func TestWatchersThatStopReading(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	conf := p.client.Config("")
	set := func(n int) (version string) {
		value := bytes.Repeat(binary.BigEndian.AppendUint64(nil, uint64(n)), changeSize/8)
		version, err := conf.Set(within(t, time.Minute), client.ConfigItem{Key: "big", Value: value})
		if err != nil {
			t.Fatal(err)
		}
		return version
	}
	set(0)
	before := p.caller.RSS() + p.callee.RSS()

	conn, err := grpc.NewClient(p.caller.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	shared := configv1.NewConfigClient(conn)
	watch := func() grpc.ServerStreamingClient[configv1.WatchResponse] {
		s, err := shared.Watch(ctx, &configv1.WatchRequest{Keys: []string{"big"}})
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for range stalledWatchers / 2 {
		watch()
		deaf(t, p.caller.GRPC)
	}
	for range stalledStreams {
		if _, err := p.echo.Repeat(ctx, &echopb.Message{Data: make([]byte, 1<<20), Times: 1000}); err != nil {
			t.Fatal(err)
		}
	}

	seen := make(chan string, changes)
	good := watch() // beside those that have stalled, on their connection
	go func() {
		for {
			m, err := good.Recv()
			if err != nil {
				return
			}
			for _, c := range m.GetChanges() {
				seen <- c.GetItem().GetVersion()
			}
		}
	}()
	var most int64
	for n := range changes {
		version := set(n + 1)
		for limit := time.After(time.Minute); ; {
			var got string
			select {
			case got = <-seen:
			case <-limit:
				t.Fatalf("the watcher that reads has not seen change %d", n)
			}
			if got == version {
				break
			}
		}
		if _, err := p.echo.Unary(within(t, time.Minute), &echopb.Message{}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.client.Cache("").Exists(within(t, time.Minute), "k"); err != nil {
			t.Fatal(err)
		}
		most = max(most, p.caller.RSS()+p.callee.RSS()-before)
	}
	fmt.Printf("stalled: %d watchers and %d streams cost two sidecars %d MiB at most, over %d changes of %d KiB\n",
		stalledWatchers, stalledStreams, most>>20, changes, changeSize>>10)
	if most > stalledMost {
		t.Fatalf("two sidecars grew by %d MiB, over the %d there may be", most>>20, stalledMost>>20)
	}
}

// deaf watches on a connection of its own, grants all that flow control can, and reads nothing.
func deaf(t *testing.T, address string) {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	message, err := proto.Marshal(&configv1.WatchRequest{Keys: []string{"big"}})
	if err != nil {
		t.Fatal(err)
	}
	var block, out bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/outrigger.config.v1.Config/Watch"}, {":authority", "a"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	const everything = 1<<31 - 1
	out.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&out, nil)
	f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: everything})
	f.WriteWindowUpdate(0, everything-65535)
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	f.WriteData(1, true, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...))
	if _, err := out.WriteTo(nc); err != nil {
		t.Fatal(err)
	}
}
