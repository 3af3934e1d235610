package dubbo_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/dubbo"
)

func frame(flags byte, body string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, flags, 0}, 7)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
}

// Requests of stock clients, as they were captured.
var captured = map[string]struct {
	body                            string
	service, version, group, method string
	timeout                         time.Duration
}{
	"Java 3.3, of a string": {"\x052.0.2\x0apeer.Hello\x050.0.0\x05hello\x12Ljava/lang/String;\x02w0H\x04path\x0apeer.Hello\x12remote.application\x0edubbo-consumer\x09interface\x0apeer.Hello\x07version\x050.0.0\x07timeout\x041000Z",
		"peer.Hello", "", "", "hello", time.Second},
	"of an object": {"\x052.0.2\x0apeer.Hello\x050.0.0\x04item\x0bLpeer/Item;C\x09peer.Item\x94\x06counts\x04tags\x04name\x02id`HZx\x03n\xc3\xa9\xe4\xb8\xad\x97H\x04path\x0apeer.Hello\x07timeout\x041000Z",
		"peer.Hello", "", "", "item", time.Second},
	"the metadata service, with a group": {"\x052.0.20)org.apache.dubbo.metadata.MetadataService\x051.0.0\x0fgetMetadataInfo\x12Ljava/lang/String;0 187a5115dabdcac57ff2fe75d7ca1f34H\x04path0)org.apache.dubbo.metadata.MetadataService\x07version\x051.0.0\x07timeout\x045000\x05group\x0edubbo-providerZ",
		"org.apache.dubbo.metadata.MetadataService", "1.0.0", "dubbo-provider", "getMetadataInfo", 5 * time.Second},
	"generic": {"\x052.0.2\x0apeer.Hello\x050.0.0\x07$invoke08Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;\x05helloq\x07[string\x10java.lang.Stringq\x07[object\x03genH\x04path\x0apeer.Hello\x07generic\x04trueZ",
		"peer.Hello", "", "", "$invoke", 0},
	"of an int": {"\x052.0.2\x0apeer.Hello\x050.0.0\x04slow\x01I\xcd\xdcH\x04path\x0apeer.Hello\x07timeout\x041000Z", "peer.Hello", "", "", "slow", time.Second},
	"Node": {"\x055.3.0\npeer.Hello\x031.0\x05hello\x12Ljava/lang/String;\x01aH\x05dubbo\x055.3.0\x05group\x04SOFA\x04path\npeer.Hello\x07service\x0epeer.Hello:1.0\x07version\x031.0Z",
		"peer.Hello", "1.0", "SOFA", "hello", 0},
	"an attachment of an argument's class": {"\x052.0.2\x0apeer.Hello\x050.0.0\x04item\x0bLpeer/Item;C\x09peer.Item\x91\x04name`\x01aH\x01o`\x01b\x05group\x01g\x07timeout\x041000Z",
		"peer.Hello", "", "g", "item", time.Second},
	"one of each value": {"\x052.0.2\x01s\x00\x01m\x11IJDZBSFC[I[[JVLa;" + "\x91" + "L\x00\x00\x00\x00\x00\x00\x00\x01" + "D\x00\x00\x00\x00\x00\x00\x00\x00" + "T" + "Y\x00\x00\x00\x01" + "\xd4\x00\x00" + "\x5d\x01" + "S\x00\x02ab" + "V\x04[int\x92\x91\x92" + "U\x05[list\x57x\x91ZZ" + "N" + "K\x00\x00\x00\x00" + "HZ", "s", "", "", "m", 0},
}

func read(t *testing.T, b []byte) rpcproxy.Frame {
	t.Helper()
	f := rpcproxy.Frame{Bytes: b}
	if n, err := (dubbo.Codec{}).Measure(b); n != len(b) || err != nil {
		t.Fatalf("measured %d of %d bytes, %v", n, len(b), err)
	}
	if err := (dubbo.Codec{}).Read(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRequestsOfStockClients(t *testing.T) {
	for name, c := range captured {
		t.Run(name, func(t *testing.T) {
			b := frame(0xc2, c.body)
			for n := range b {
				if got, err := (dubbo.Codec{}).Measure(b[:n]); err != nil || got != 0 && got != len(b) {
					t.Fatalf("%d bytes are measured as %d, %v", n, got, err)
				}
			}
			if f := read(t, b); f.Kind != rpcproxy.Request || f.ID != 7 {
				t.Errorf("read as %+v", f)
			}
			var h rpcproxy.Head
			if err := (dubbo.Codec{}).Describe(b, &h); err != nil || h.Service != c.service || h.Version != c.version || h.Group != c.group || h.Method != c.method || h.Timeout != c.timeout {
				t.Fatalf("described as %+v, %v", h, err)
			}
			set := rpcproxy.Edit{Strip: "outrigger-", Set: []rpcproxy.Header{{Name: "outrigger-a", Value: "1"}, {Name: "x", Value: strings.Repeat("y", 50)}}}
			out, err := (dubbo.Codec{}).AppendRequest([]byte("before"), b, 9, set)
			if err != nil || string(out[:6]) != "before" {
				t.Fatal(err)
			}
			out = out[6:]
			if f := read(t, out); f.ID != 9 || (dubbo.Codec{}).Header(out, "outrigger-a") != "1" || len((dubbo.Codec{}).Header(out, "x")) != 50 {
				t.Errorf("sent on as %q", out)
			}
			back, err := (dubbo.Codec{}).AppendRequest(nil, out, 7, rpcproxy.Edit{Strip: "outrigger-"})
			if want := strings.TrimSuffix(c.body, "Z") + "\x01x02" + strings.Repeat("y", 50) + "Z"; err != nil || string(back[16:]) != want {
				t.Errorf("taken out again: %q, %v", back[16:], err)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		kind rpcproxy.Kind
		code int
	}{
		"heartbeat": {frame(0xe2, "N"), rpcproxy.Heartbeat, 0}, "its answer": {frame(0x22, "N"), rpcproxy.Alive, 0}, "readonly": {frame(0xa2, "\x01R"), rpcproxy.Leave, 0},
		"one way": {frame(0x82, ""), rpcproxy.Oneway, 0}, "another event": {frame(0xa2, "N"), rpcproxy.Ignored, 0},
	} {
		if f := read(t, c.b); f.Kind != c.kind {
			t.Errorf("%s is of kind %d", name, f.Kind)
		}
	}
	for body, code := range map[string]int{"\x94\x01aHZ": 0, "\x93\x01a": 2, "\x90\x01a": 2, "\x91\x01a": 0, "\x92": 0} {
		b := frame(0x02, body)
		if b[3] = 20; read(t, b).Code != code {
			t.Errorf("%q has the code %d", body, read(t, b).Code)
		}
	}
}

// Only what Dubbo's server itself says counts: a service that throws the same text has done something.
func TestServiceThatIsGone(t *testing.T) {
	const text = ".remoting.RemotingException: Not found exported service: peer.Hello:20880 in [], may be version or group mismatch"
	for name, c := range map[string]struct {
		status byte
		body   string
		gone   bool
	}{
		"Apache's": {70, "0\x90org.apache.dubbo" + text, true}, "Alibaba's": {70, "0\x90com.alibaba.dubbo" + text, true}, "thrown": {20, "\x900\x90org.apache.dubbo" + text, false},
		"another error": {70, "\x05other", false}, "further in": {70, "0\x90" + strings.Repeat("x", 100) + text, false}, "nothing": {70, "", false},
	} {
		b := frame(0x02, c.body)
		b[3] = c.status
		if f := read(t, b); f.Gone != c.gone || f.About != nil || f.Code == 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestWhatCannotBeReadIsSaid(t *testing.T) {
	body := captured["of an object"].body
	for name, c := range map[string]struct {
		b    []byte
		text string
	}{
		"fastjson2":                {frame(0xc0|23, body), "serialization 23 is not read"},
		"a body that is cut":       {frame(0xc2, body[:len(body)-1]), "map of attachments"},
		"no attachments":           {frame(0xc2, "\x052.0.2\x01s\x00\x01m\x00"), "map of attachments"},
		"something behind them":    {frame(0xc2, body+"N"), "map of attachments"},
		"nothing":                  {frame(0xc2, ""), "not written in strings"},
		"an argument of no kind":   {frame(0xc2, "\x052.0.2\x01s\x00\x01m\x01IG"), "an argument of m cannot be read"},
		"a list that never ends":   {frame(0xc2, "\x052.0.2\x01s\x00\x01m\x01IX\x4900000HZ"), "an argument of m cannot be read"},
		"an argument that is deep": {frame(0xc2, "\x052.0.2\x01s\x00\x01m\x01I"+strings.Repeat("y", 10_000)), "an argument of m cannot be read"},
	} {
		if err := (dubbo.Codec{}).Describe(c.b, &rpcproxy.Head{}); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for code, status := range map[int]int{14: 80, 4: 31, 5: 60, 8: 100, 3: 40} {
		for _, sidecar := range []bool{false, true} {
			e := &rpcproxy.Error{Code: code, Reason: "WHY", Message: strings.Repeat("why ", 100), Flag: rpcproxy.FlagClosed}
			f := read(t, (dubbo.Codec{}).AppendError(nil, frame(0xc2, "x"), e, sidecar))
			if f.Kind != rpcproxy.Response || f.ID != 7 || f.Status != status || !bytes.Contains(f.Bytes, []byte(e.Error())) {
				t.Errorf("%d: %+v", code, f)
			}
			if sidecar && (f.Peer == nil || *f.Peer != *e) || !sidecar && f.Peer != nil {
				t.Errorf("%d, to a sidecar %v: of a sidecar: %+v", code, sidecar, f.Peer)
			}
		}
	}
}

func FuzzCodec(f *testing.F) {
	for _, c := range captured {
		f.Add(frame(0xc2, c.body))
	}
	f.Add((dubbo.Codec{}).AppendError(nil, frame(0xc2, ""), &rpcproxy.Error{Code: 14}, true))
	f.Add(frame(0xe2, "N"))
	f.Add([]byte{0xda, 0xbb, 0xe2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := dubbo.Codec{}
		n, err := c.Measure(b)
		if err != nil || n == 0 || n > len(b) {
			return
		}
		frame := rpcproxy.Frame{Bytes: b[:n:n]}
		if c.Read(&frame) != nil {
			return
		}
		c.AppendAlive(nil, &frame)
		c.AppendUnserved(nil, &frame)
		if frame.Kind != rpcproxy.Request && frame.Kind != rpcproxy.Oneway {
			c.SetID(frame.Bytes, 1)
			return
		}
		read(t, c.AppendError(nil, frame.Bytes, &rpcproxy.Error{Message: string(b)}, true))
		var h, h2 rpcproxy.Head
		if c.Describe(frame.Bytes, &h) != nil {
			return
		}
		out, err := c.AppendRequest(nil, frame.Bytes, 5, rpcproxy.Edit{Strip: "outrigger-", Set: []rpcproxy.Header{{Name: "outrigger-x", Value: "1"}}})
		if err != nil {
			t.Fatalf("described as %+v, and not sent on: %v", h, err)
		}
		again := read(t, out)
		if c.Describe(out, &h2); again.ID != 5 || h != h2 || c.Header(out, "outrigger-x") != "1" {
			t.Fatalf("sent on as %+v, for %+v; it was for %+v", again, h2, h)
		}
	})
}
