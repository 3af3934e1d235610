package bolt_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/bolt"
)

const class = "com.alipay.sofa.rpc.core.request.SofaRequest"

func headers(all ...string) (b []byte) {
	for _, s := range all {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return b
}

// request is of version 1, or of version 2 with its switch.
func request(version, ver1, turn byte, head []byte, body string) []byte {
	b := []byte{version}
	if version == 2 {
		b = append(b, ver1)
	}
	b = append(b, 1, 0, 1, 1, 0, 0, 0, 7, 1)
	if version == 2 {
		b = append(b, turn)
	}
	b = append(b, 0, 0, 0x0b, 0xb8) // 3 s
	b = binary.BigEndian.AppendUint16(b, uint16(len(class)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(head)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(append(append(b, class...), head...), body...)
	if version == 2 && ver1 == 2 && turn == 1 {
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	}
	return b
}

var named = headers("sofa_head_target_service", "peer.Hello:1.0:blue", "service", "peer.Hello:1.0", "sofa_head_method_name", "hello", "outrigger-hops", "3")

// read takes a frame that must be whole.
func read(t *testing.T, b []byte) rpcproxy.Frame {
	t.Helper()
	f := rpcproxy.Frame{Bytes: b}
	if n, err := (bolt.Codec{}).Measure(b); n != len(b) || err != nil {
		t.Fatalf("measured %d of %d bytes, %v", n, len(b), err)
	}
	if err := (bolt.Codec{}).Read(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRequestsOfEachVersion(t *testing.T) {
	for name, frame := range map[string][]byte{"1": request(1, 0, 0, named, "body"), "2": request(2, 1, 0, named, "body"), "2 with a checksum": request(2, 2, 1, named, "body")} {
		t.Run(name, func(t *testing.T) {
			c := bolt.Codec{}
			for n := range frame { // a part of it is no frame
				if got, err := c.Measure(frame[:n]); err != nil || got != 0 && got != len(frame) {
					t.Fatalf("%d bytes are measured as %d, %v", n, got, err)
				}
			}
			f := read(t, frame)
			if f.Kind != rpcproxy.Request || f.ID != 7 || f.Timeout != 3*time.Second {
				t.Errorf("read as %+v", f)
			}
			var h rpcproxy.Head
			if err := c.Describe(frame, &h); err != nil || h.Service != "peer.Hello" || h.Version != "1.0" || h.Group != "blue" || h.Method != "hello" {
				t.Errorf("described as %+v, %v", h, err)
			}
			out, err := c.AppendRequest([]byte("before"), frame, 99, rpcproxy.Edit{Strip: "outrigger-", Set: []rpcproxy.Header{{Name: "outrigger-hops", Value: "4"}, {Name: "x", Value: ""}}})
			if err != nil || string(out[:6]) != "before" {
				t.Fatal(err)
			}
			if f := read(t, out[6:]); f.ID != 99 || f.Timeout != 3*time.Second || !bytes.Contains(f.Bytes, []byte("body")) {
				t.Errorf("sent on as %+v", f)
			}
			for name, want := range map[string]string{"outrigger-hops": "4", "service": "peer.Hello:1.0", "x": "", "absent": ""} {
				if got := c.Header(out[6:], name); got != want {
					t.Errorf("header %s is %q, want %q", name, got, want)
				}
			}
			same, err := c.AppendRequest(nil, frame, 7, rpcproxy.Edit{})
			if err != nil || !bytes.Equal(same, frame) {
				t.Errorf("a request that nothing is changed of is sent as %q, %v", same, err)
			}
		})
	}
}

func TestWrongChecksumIsNotPassedOn(t *testing.T) {
	frame := request(2, 2, 1, named, "body")
	frame[len(frame)-5] ^= 1
	if err := (bolt.Codec{}).Read(&rpcproxy.Frame{Bytes: frame}); err == nil {
		t.Error("it was read")
	}
}

func TestHeadersThatAreCutOff(t *testing.T) {
	for _, head := range [][]byte{named[:len(named)-1], {0, 0}, {0x7f, 0xff, 0xff, 0xff}} {
		if err := (bolt.Codec{}).Read(&rpcproxy.Frame{Bytes: request(1, 0, 0, head, "")}); err == nil {
			t.Errorf("headers %q were read", head)
		}
	}
}

func TestNoRoomForHeaders(t *testing.T) {
	frame := request(1, 0, 0, headers("service", "s:1.0", "long", strings.Repeat("x", 65_400)), "")
	b, err := (bolt.Codec{}).AppendRequest([]byte("kept"), frame, 1, rpcproxy.Edit{Set: []rpcproxy.Header{{Name: "outrigger-service", Value: strings.Repeat("y", 300)}}})
	if err == nil || string(b) != "kept" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// Without headers, as clients may send it, what the request is for stands in its body.
func TestServiceFromTheBody(t *testing.T) {
	fields := "O\xbc" + class + "\x95\x0dtargetAppName\x0amethodName\x17targetServiceUniqueName\x0crequestProps\x0dmethodArgSigs"
	for body, want := range map[string]string{
		fields + "o\x90N\x05hello\x0epeer.Hello:1.0H":             "peer.Hello 1.0 hello",
		fields + "o\x90\x00\x05helloS\x00\x0bh\xc3\xa9llo:2.0:xM": "h\u00e9llo 2.0 hello",
		fields + "o\x90H":    "",
		fields:               "",
		"":                   "",
		"O\xbc" + class[:20]: "",
	} {
		var h rpcproxy.Head
		err := (bolt.Codec{}).Describe(request(1, 0, 0, nil, body), &h)
		got := strings.TrimSpace(h.Service + " " + h.Version + " " + h.Method)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is for %q, %v; want %q", body, got, err, want)
		}
	}
}

// Node's client has a header for the service, and the method in the body alone.
func TestMethodFromTheBody(t *testing.T) {
	body := "O\xbc" + class + "\x92\x0amethodName\x17targetServiceUniqueNameo\x90\x05hello\x0epeer.Hello:1.0"
	for head, want := range map[string]string{"peer.Hello:1.0": "hello", "peer.Other:1.0": ""} {
		var h rpcproxy.Head
		if err := (bolt.Codec{}).Describe(request(1, 0, 0, headers("service", head), body), &h); err != nil || h.Service+":1.0" != head || h.Method != want {
			t.Errorf("a call of %s is of the method %q of %s, %v; want %q", head, h.Method, h.Service, err, want)
		}
	}
}

func TestErrorsOfEachKindOfRequest(t *testing.T) {
	long := strings.Repeat("why ", 100)
	other := bytes.Replace(request(1, 0, 0, named, ""), []byte(class), []byte(strings.Repeat("c", len(class))), 1)
	protobuf := request(1, 0, 0, named, "")
	protobuf[9] = 11
	for name, c := range map[string]struct {
		frame        []byte
		code, status int
	}{
		"hessian": {request(1, 0, 0, named, ""), 14, 0}, "hessian, late": {request(1, 0, 0, named, ""), 4, 7}, "hessian, busy": {request(1, 0, 0, named, ""), 8, 4},
		"protobuf": {protobuf, 14, 0}, "another class": {other, 14, 16}, "version 2 with a checksum": {request(2, 2, 1, named, ""), 14, 0},
	} {
		for _, sidecar := range []bool{false, true} {
			e := &rpcproxy.Error{Code: c.code, Reason: "WHY", Message: long, Flag: rpcproxy.FlagClosed, Sent: true}
			f := read(t, (bolt.Codec{}).AppendError(nil, c.frame, e, sidecar))
			if f.Kind != rpcproxy.Response || f.ID != 7 || f.Status != c.status || !bytes.Contains(f.Bytes, []byte("WHY: "+long)) {
				t.Errorf("%s: %+v", name, f)
			}
			if sidecar && (f.Peer == nil || *f.Peer != *e) || !sidecar && f.Peer != nil {
				t.Errorf("%s, to a sidecar %v: of a sidecar: %+v", name, sidecar, f.Peer)
			}
		}
	}
}

// As Java's client has read it; see the capture of a SofaResponse.
func TestErrorIsASofaResponse(t *testing.T) {
	got := (bolt.Codec{}).AppendError(nil, request(1, 0, 0, named, ""), &rpcproxy.Error{Code: 14, Message: "why"}, false)
	want := "O\xbecom.alipay.sofa.rpc.core.response.SofaResponse\x94\x07isError\x08errorMsg\x0bappResponse\x0dresponsePropso\x90TS\x00\x03whyNN"
	if !strings.HasSuffix(string(got), want) {
		t.Errorf("%q", got)
	}
}

// Node's client decodes a body beside a status as an object, and ends its connection if it is none. It reads a SofaResponse. Java's makes its exceptions
// of the statuses, and another sidecar decides by them.
func TestTimeoutAndBusyByWhoAsks(t *testing.T) {
	const response = "O\xbecom.alipay.sofa.rpc.core.response.SofaResponse\x94\x07isError\x08errorMsg\x0bappResponse\x0dresponsePropso\x90T"
	for name, c := range map[string]struct {
		head    []byte
		sidecar bool
		node    bool
	}{
		"Java": {named, false, false}, "Node": {headers("service", "peer.Hello:1.0"), false, true}, "Node without headers": {nil, false, true},
		"a sidecar": {headers("service", "peer.Hello:1.0", "outrigger-hops", "1"), true, false},
	} {
		for code, status := range map[int]int{4: 7, 8: 4} {
			for _, frame := range [][]byte{request(1, 0, 0, c.head, ""), request(2, 2, 1, c.head, "")} {
				e := &rpcproxy.Error{Code: code, Message: "why"}
				f := read(t, (bolt.Codec{}).AppendError(nil, frame, e, c.sidecar))
				if c.node {
					status = 0
				}
				text := bytes.Contains(f.Bytes, []byte("S\x00\x03why"))
				if f.Status != status || !text || bytes.Contains(f.Bytes, []byte(response+"S\x00\x03whyNN")) != c.node {
					t.Errorf("%s, code %d: %q", name, code, f.Bytes)
				}
				if c.sidecar && (f.Peer == nil || *f.Peer != *e) {
					t.Errorf("%s, code %d: of a sidecar: %+v", name, code, f.Peer)
				}
			}
		}
	}
}

// response is what a server answers with a body of a SofaResponse, as errors are told in its headers.
func response(codec byte, body string) []byte {
	const class = "com.alipay.sofa.rpc.core.response.SofaResponse"
	head := headers("sofa_head_response_error", "true")
	b := []byte{1, 0, 0, 2, 1, 0, 0, 0, 7, codec, 0, 0, 0, byte(len(class)), 0, byte(len(head))}
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(append(append(b, class...), head...), body...)
}

const responseFields = "O\xbecom.alipay.sofa.rpc.core.response.SofaResponse\x94\x07isError\x08errorMsg\x0bappResponse\x0dresponsePropso\x90"

// Only what SOFARPC itself says counts: a service that throws the same text has done something.
func TestServiceThatIsGone(t *testing.T) {
	const noService, chinese, stopped = "\x1aRPC-020100010: RPC [a:1:b]", "\x1eRPC-020100010: 未找到业务服务：[a:1:b]", "\x1bRPC-019990009: RPC [10.1:1]"
	for name, c := range map[string]struct {
		frame []byte
		about string // empty: it is not gone
	}{
		"in English": {response(1, responseFields+"T"+noService+"NN"), "a:1:b"}, "in Chinese": {response(1, responseFields+"T"+chinese+"NN"), "a:1:b"},
		"the server has stopped": {response(1, responseFields+"T"+stopped+"NN"), "10.1:1"}, "of protobuf": {response(11, noService[1:]), "a:1:b"},
		"another error of SOFARPC": {response(1, responseFields+"T\x1aRPC-020100011: RPC [a:1:b]"+"NN"), ""}, "thrown": {response(1, responseFields+"FN"+noService+"N"), ""},
		"thrown, of protobuf": {response(11, "x "+noService[1:]), ""}, "within a text": {response(1, responseFields+"T\x1cx RPC-020100010: RPC [a:1:b]"+"NN"), ""},
		"of what is not said": {response(11, "RPC-020100010: RPC"), ""}, "not to its end": {response(11, "RPC-020100010: RPC [a:1"), ""},
		"cut off": {response(1, responseFields+"T"+noService[:5]), ""}, "of many fields": {response(1, strings.Replace(responseFields, "\x94", "I\x7f\xff\xff\xff", 1)), ""},
	} {
		if f := read(t, c.frame); f.Gone != (c.about != "") || string(f.About) != c.about || f.Code == 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func FuzzCodec(f *testing.F) {
	for _, b := range [][]byte{request(1, 0, 0, named, "body"), request(2, 2, 1, named, "body"), request(2, 1, 0, nil, "O\xbc"+class+"\x91\x0amethodNameo\x90\x01x"),
		(bolt.Codec{}).AppendHeartbeat(nil, 3), (bolt.Codec{}).AppendLeave(nil, true), {1, 0, 0, 2, 1, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := bolt.Codec{}
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
		var h, h2 rpcproxy.Head
		failed := c.Describe(frame.Bytes, &h)
		out, err := c.AppendRequest(nil, frame.Bytes, 5, rpcproxy.Edit{Strip: "outrigger-", Set: []rpcproxy.Header{{Name: "outrigger-x", Value: "1"}}})
		if err != nil {
			return
		}
		again := read(t, out)
		if c.Describe(out, &h2); again.ID != 5 || again.Kind != frame.Kind || failed == nil && h != h2 || c.Header(out, "outrigger-x") != "1" {
			t.Fatalf("sent on as %+v, for %+v; it was for %+v", again, h2, h)
		}
		read(t, c.AppendError(nil, frame.Bytes, &rpcproxy.Error{Message: string(b)}, true))
	})
}
