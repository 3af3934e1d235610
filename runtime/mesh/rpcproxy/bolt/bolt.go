// Package bolt is the codec of Bolt, the protocol of SOFARPC, in its versions 1 and 2.
//
// A frame is a fixed head, the name of the body's class, headers, the body, and in version 2 a checksum if its switch says so:
//
//	           proto ver1 type cmd ver2 id codec switch timeout|status classLen headersLen bodyLen
//	version 1  1     -    1    2   1    4  1     -      4|2            2        2          4
//	version 2  1     1    1    2   1    4  1     1      4|2            2        2          4
//
// A header is two strings, each with its length in four bytes before it. The body passes as it is, whatever wrote it; of a
// request that has no headers the begin of a hessian body is read, to know what it is for.
package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// Codec reads and writes Bolt.
type Codec struct{}

var _ rpcproxy.Codec = Codec{}

// Name is "bolt".
func (Codec) Name() string { return "bolt" }

const (
	v1, v2 = 1, 2 // the first byte

	typeResponse, typeRequest, typeOneway = 0, 1, 2
	cmdHeartbeat, cmdRequest, cmdResponse = 0, 1, 2
	cmdLeave                              = 100 // MOSN's: stock clients do not know it

	codecHessian, codecProtobuf = 1, 11

	checksum = 1 // of the switch, where ver1 is 2
	sumSize  = 4

	maxHeaders = math.MaxUint16
)

// The statuses of responses that the loop answers with or looks at.
const (
	statusSuccess          = 0
	statusServerException  = 2
	statusUnknown          = 3
	statusThreadpoolBusy   = 4
	statusNoProcessor      = 6
	statusTimeout          = 7
	statusConnectionClosed = 16
)

var (
	errType     = errors.New("bolt: a frame of no known type")
	errHeaders  = errors.New("bolt: headers that are cut off")
	errChecksum = errors.New("bolt: the checksum of a frame is wrong")
	errTooMany  = errors.New("bolt: no room for the sidecar's headers")
	errNoName   = errors.New("bolt: neither its headers nor its body say which service it is for")
)

// shape is where things are in a frame.
type shape struct {
	version, kind               byte
	cmd                         uint16
	id, codec                   int // where they are
	class, headers, body, total int // where they begin, and the end; total is without the checksum
	sum                         int // bytes of the checksum
}

const longest = 24 // head

// measure reads the head of a frame; ok is false if it is not there whole.
func measure(b []byte) (s shape, ok bool, err error) {
	if len(b) < 2 {
		return s, false, nil
	}
	at := 1
	switch s.version = b[0]; s.version {
	case v1:
	case v2:
		at = 2
	default:
		return s, false, fmt.Errorf("bolt: a frame begins with the byte %#02x", s.version)
	}
	if len(b) <= at {
		return s, false, nil
	}
	if s.kind = b[at]; s.kind > typeOneway {
		return s, false, errType
	}
	s.id, s.codec = at+4, at+8
	lens := at + 9 // past the codec
	if s.version == v2 {
		lens++
	}
	if s.kind == typeResponse {
		lens += 2
	} else {
		lens += 4
	}
	s.class = lens + 8
	if len(b) < s.class {
		return s, false, nil
	}
	s.cmd = binary.BigEndian.Uint16(b[at+1:])
	s.headers = s.class + int(binary.BigEndian.Uint16(b[lens:]))
	s.body = s.headers + int(binary.BigEndian.Uint16(b[lens+2:]))
	s.total = s.body + int(binary.BigEndian.Uint32(b[lens+4:]))
	if s.version == v2 && b[1] == v2 && b[s.codec+1]&checksum != 0 {
		s.sum = sumSize
	}
	return s, true, nil
}

// Measure tells how long a frame is. See rpcproxy.Codec, here and below.
func (Codec) Measure(b []byte) (int, error) {
	s, ok, err := measure(b)
	if err != nil || !ok {
		return 0, err
	}
	return s.total + s.sum, nil
}

func (Codec) Read(f *rpcproxy.Frame) error {
	s, _, err := measure(f.Bytes)
	if err != nil {
		return err
	}
	if s.sum != 0 && crc32.ChecksumIEEE(f.Bytes[:s.total]) != binary.BigEndian.Uint32(f.Bytes[s.total:]) {
		return errChecksum
	}
	f.ID = uint64(binary.BigEndian.Uint32(f.Bytes[s.id:]))
	switch {
	case s.cmd == cmdLeave:
		f.Kind = rpcproxy.Leave
		return nil
	case s.cmd == cmdHeartbeat && s.kind == typeResponse:
		f.Kind = rpcproxy.Alive
		return nil
	case s.cmd == cmdHeartbeat:
		f.Kind = rpcproxy.Heartbeat
		return nil
	}
	if err := each(f.Bytes[s.headers:s.body], func(_, _ []byte) bool { return true }); err != nil {
		return err
	}
	past := s.codec + 1
	if s.version == v2 {
		past++
	}
	switch s.kind {
	case typeResponse:
		f.Kind, f.Status = rpcproxy.Response, int(binary.BigEndian.Uint16(f.Bytes[past:]))
		f.Code = code(f.Status)
		f.Failed = f.Status == statusThreadpoolBusy || f.Status == statusNoProcessor
		if f.Status == statusSuccess && string(find(f.Bytes[s.headers:s.body], headerFailed)) == "true" {
			f.Code = codeUnknown // the service has thrown something
			f.About, f.Gone = unserved(f.Bytes[s.codec], f.Bytes[s.body:s.total])
		}
		if e := find(f.Bytes[s.headers:s.body], rpcproxy.HeaderError); len(e) > 0 {
			f.Peer = rpcproxy.Unpack(string(e))
		}
	default:
		f.Kind = rpcproxy.Request
		if s.kind == typeOneway {
			f.Kind = rpcproxy.Oneway
		}
		if ms := int32(binary.BigEndian.Uint32(f.Bytes[past:])); ms > 0 {
			f.Timeout = time.Duration(ms) * time.Millisecond
		}
	}
	return nil
}

// The gRPC status codes that stand for Bolt's.
const (
	codeUnknown     = 2
	codeDeadline    = 4
	codeExhausted   = 8
	codeUnimplement = 12
	codeInternal    = 13
	codeUnavailable = 14
)

func code(status int) int {
	switch status {
	case statusSuccess:
		return 0
	case statusThreadpoolBusy:
		return codeExhausted
	case statusNoProcessor:
		return codeUnimplement
	case statusTimeout:
		return codeDeadline
	case statusConnectionClosed:
		return codeUnavailable
	case statusServerException, statusUnknown:
		return codeUnknown
	}
	return codeInternal
}

// each calls f with each header, until it answers false.
func each(b []byte, f func(name, value []byte) bool) error {
	for len(b) > 0 {
		name, rest, ok := text(b)
		value, rest, ok2 := text(rest)
		if !ok || !ok2 {
			return errHeaders
		}
		if !f(name, value) {
			return nil
		}
		b = rest
	}
	return nil
}

// text cuts a string off. Java writes -1 for one that is null.
func text(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int64(int32(binary.BigEndian.Uint32(b)))
	b = b[4:]
	if n = max(n, 0); n > int64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

func find(b []byte, name string) (value []byte) {
	each(b, func(n, v []byte) bool {
		if string(n) == name {
			value = v
			return false
		}
		return true
	})
	return value
}

// Describe reads IFACE:VERSION[:UNIQUEID] and the method from the headers, or from the body.
func (Codec) Describe(frame []byte, h *rpcproxy.Head) error {
	s, _, _ := measure(frame)
	var target, service, method []byte
	each(frame[s.headers:s.body], func(name, value []byte) bool {
		switch string(name) {
		case headerTarget:
			target = value
		case "service":
			service = value
		case "sofa_head_method_name":
			method = value
		}
		return true
	})
	if len(target) == 0 {
		target = service
	}
	if (len(target) == 0 || len(method) == 0) && frame[s.codec] == codecHessian { // Node's client has a header for the service alone
		if t, m := named(frame[s.body:s.total]); len(target) == 0 {
			target, method = t, m
		} else if bytes.Equal(t, target) {
			method = m
		}
	}
	if len(target) == 0 {
		return errNoName
	}
	name, rest, _ := strings.Cut(h.Strings.Of(target), ":")
	h.Service = name
	h.Version, h.Group, _ = strings.Cut(rest, ":")
	h.Method = h.Strings.Of(method)
	return nil
}

func (Codec) Header(frame []byte, name string) string {
	s, _, _ := measure(frame)
	return string(find(frame[s.headers:s.body], name))
}

func (c Codec) AppendRequest(b, frame []byte, id uint64, e rpcproxy.Edit) ([]byte, error) {
	s, _, _ := measure(frame)
	strip := false
	if e.Strip != "" {
		each(frame[s.headers:s.body], func(name, _ []byte) bool {
			strip = len(name) >= len(e.Strip) && string(name[:len(e.Strip)]) == e.Strip
			return !strip
		})
	}
	at := len(b)
	if !strip && len(e.Set) == 0 {
		b = append(b, frame...)
		c.SetID(b[at:], id)
		return b, nil
	}
	b = append(b, frame[:s.headers]...)
	if !strip {
		b = append(b, frame[s.headers:s.body]...)
	} else {
		each(frame[s.headers:s.body], func(name, value []byte) bool {
			if len(name) < len(e.Strip) || string(name[:len(e.Strip)]) != e.Strip {
				b = put(put(b, string(name)), string(value))
			}
			return true
		})
	}
	for _, h := range e.Set {
		b = put(put(b, h.Name), h.Value)
	}
	n := len(b) - at - s.headers
	if n > maxHeaders {
		return b[:at], errTooMany
	}
	b = append(b, frame[s.body:]...) // the checksum too
	binary.BigEndian.PutUint16(b[at+s.class-6:], uint16(n))
	c.SetID(b[at:], id)
	return b, nil
}

func put(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func (Codec) SetID(frame []byte, id uint64) {
	s, _, _ := measure(frame)
	binary.BigEndian.PutUint32(frame[s.id:], uint32(id))
	if s.sum != 0 {
		binary.BigEndian.PutUint32(frame[s.total:], crc32.ChecksumIEEE(frame[:s.total]))
	}
}
