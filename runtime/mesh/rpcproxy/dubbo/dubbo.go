// Package dubbo is the codec of Dubbo 2, the protocol "dubbo" of Dubbo 2.x and 3.x.
//
// A frame is a head of 16 bytes (magic dabb, flags, status, id in 8 bytes, length in 4) and a body. The body of a request is
// a row of values: the version of the framework, path, version, method, types of the arguments, the arguments, and a map of
// attachments. To read and change that map the arguments are skipped, not decoded; they pass as they are.
package dubbo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// Codec reads and writes Dubbo 2.
type Codec struct{}

var _ rpcproxy.Codec = Codec{}

// Name is "dubbo".
func (Codec) Name() string { return "dubbo" }

const (
	head = 16

	flagRequest, flagTwoWay, flagEvent, serializationMask = 0x80, 0x40, 0x20, 0x1f

	hessian2 = 2 // the serialization
	readonly = 'R'

	statusOK             = 20
	statusClientTimeout  = 30
	statusServerTimeout  = 31
	statusBadRequest     = 40
	statusNotFound       = 60
	statusServiceError   = 70
	statusServerError    = 80
	statusPoolExhausted  = 100
	typeDescriptionLimit = 64 << 10
	maxAttachments       = 10_000
)

var (
	errMagic       = errors.New("dubbo: a frame does not begin with dabb")
	errNoString    = errors.New("dubbo: the request's head is not written in strings")
	errTooMany     = fmt.Errorf("dubbo: the request has more than %d attachments", maxAttachments)
	errAttachments = errors.New("dubbo: the request does not end with a map of attachments")
)

// Measure tells how long a frame is. See rpcproxy.Codec, here and below.
func (Codec) Measure(b []byte) (int, error) {
	if len(b) >= 1 && b[0] != 0xda || len(b) >= 2 && b[1] != 0xbb {
		return 0, errMagic
	}
	if len(b) < head {
		return 0, nil
	}
	return head + int(binary.BigEndian.Uint32(b[12:])), nil
}

func (Codec) Read(f *rpcproxy.Frame) error {
	flags, body := f.Bytes[2], f.Bytes[head:]
	f.ID = binary.BigEndian.Uint64(f.Bytes[4:])
	switch {
	case flags&flagEvent != 0 && flags&flagRequest == 0:
		f.Kind = rpcproxy.Alive
	case flags&flagEvent != 0 && len(body) >= 2 && body[len(body)-1] == readonly:
		f.Kind = rpcproxy.Leave
	case flags&flagEvent != 0 && flags&flagTwoWay == 0:
		f.Kind = rpcproxy.Ignored
	case flags&flagEvent != 0:
		f.Kind = rpcproxy.Heartbeat
	case flags&flagRequest != 0 && flags&flagTwoWay == 0:
		f.Kind = rpcproxy.Oneway
	case flags&flagRequest != 0:
		f.Kind = rpcproxy.Request
	default:
		f.Kind, f.Status = rpcproxy.Response, int(f.Bytes[3])
		f.Code = code(f.Status)
		f.Failed = f.Status == statusPoolExhausted
		if f.Status != statusOK && flags&serializationMask == hessian2 {
			f.Peer = peer(body)
		}
		f.Gone = f.Status == statusServiceError && unserved(body[:min(len(body), maxSaid)])
		if f.Status == statusOK && flags&serializationMask == hessian2 && len(body) > 0 && (body[0] == 0x90 || body[0] == 0x93) {
			f.Code = codeUnknown // the service has thrown something
		}
	}
	return nil
}

// saysNoService is what a Dubbo server says, within maxSaid bytes, when it has no such service (any more): the call was not begun. What the service
// itself throws comes as a value, with statusOK.
const (
	saysNoService = ".remoting.RemotingException: Not found exported service: "
	maxSaid       = 100
)

func unserved(body []byte) bool { return bytes.Contains(body, []byte(saysNoService)) }

// The gRPC status codes that stand for Dubbo's.
const (
	codeUnknown     = 2
	codeInvalid     = 3
	codeDeadline    = 4
	codeNotFound    = 5
	codeExhausted   = 8
	codeUnimplement = 12
	codeInternal    = 13
	codeUnavailable = 14
)

func code(status int) int {
	switch status {
	case statusOK:
		return 0
	case statusClientTimeout, statusServerTimeout:
		return codeDeadline
	case statusBadRequest:
		return codeInvalid
	case statusNotFound:
		return codeUnimplement
	case statusServiceError:
		return codeUnknown
	case statusPoolExhausted:
		return codeExhausted
	}
	return codeInternal
}

func status(code int) byte {
	switch code {
	case codeDeadline:
		return statusServerTimeout
	case codeInvalid:
		return statusBadRequest
	case codeNotFound, codeUnimplement:
		return statusNotFound
	case codeExhausted:
		return statusPoolExhausted
	}
	return statusServerError
}

// parts are where the attachments of a request are: their map's first entry, and what ends it.
type parts struct {
	first, end int
	classes    []int // that values before the first entry have defined: the fields of each
}

// dissect finds the row of values of a request. values are path, version and method.
func dissect(frame []byte) (values [3][]byte, p parts, err error) {
	if s := frame[2] & serializationMask; s != hessian2 {
		return values, p, fmt.Errorf("dubbo: serialization %d is not read by the sidecar: have the client use hessian2 (serialization=hessian2)", s)
	}
	r := reader{b: frame, at: head}
	if _, ok := r.text(); !ok { // of the framework
		return values, p, errNoString
	}
	for i := range values {
		var ok bool
		if values[i], ok = r.textOrNull(); !ok {
			return values, p, errNoString
		}
	}
	types, ok := r.text()
	if !ok || len(types) > typeDescriptionLimit {
		return values, p, errNoString
	}
	for range arguments(types) {
		if !r.skip() {
			return values, p, fmt.Errorf("dubbo: an argument of %.128s cannot be read at byte %d", values[2], r.at)
		}
	}
	if !r.enterMap() {
		return values, p, errAttachments
	}
	p.first, p.classes = r.at, slices.Clone(r.classes)
	for n := 0; !r.atEnd(); n++ {
		if n == maxAttachments {
			return values, p, errTooMany
		}
		if !r.skip() || !r.skip() {
			return values, p, errAttachments
		}
	}
	if p.end = r.at; p.end != len(frame)-1 {
		return values, p, errAttachments
	}
	return values, p, nil
}

// arguments counts the types of a description such as Ljava/lang/String;[I.
func arguments(types []byte) (n int) {
	for i := 0; i < len(types); i++ {
		switch types[i] {
		case '[':
			continue
		case 'L':
			for i < len(types) && types[i] != ';' {
				i++
			}
		}
		n++
	}
	return n
}

// attachments calls f with each that is a string, and where it begins and ends, until f answers false.
func attachments(frame []byte, p parts, f func(name, value []byte, from, to int) bool) {
	r := reader{b: frame[:p.end+1], at: p.first, classes: slices.Clip(p.classes)}
	for !r.atEnd() {
		from := r.at
		name, ok := r.text()
		if !ok && !r.skip() {
			return
		}
		value, isText := r.text()
		if !isText && !r.skip() {
			return
		}
		if ok && !f(name, value, from, r.at) {
			return
		}
	}
}

// Describe reads the service from the path, or the attachment interface, which an alias of the path does not change.
func (Codec) Describe(frame []byte, h *rpcproxy.Head) error {
	values, p, err := dissect(frame)
	if err != nil {
		return err
	}
	name, version := values[0], values[1]
	var group []byte
	attachments(frame, p, func(key, value []byte, _, _ int) bool {
		switch string(key) {
		case "interface":
			if len(value) > 0 {
				name = value
			}
		case "group":
			group = value
		case "version":
			if len(version) == 0 {
				version = value
			}
		case "timeout":
			if ms, err := strconv.ParseInt(string(value), 10, 32); err == nil && ms > 0 {
				h.Timeout = time.Duration(ms) * time.Millisecond
			}
		}
		return true
	})
	if len(name) == 0 {
		return errors.New("dubbo: the request does not say which service it is for")
	}
	h.Service, h.Group, h.Method = h.Strings.Of(name), h.Strings.Of(group), h.Strings.Of(values[2])
	if v := h.Strings.Of(version); v != "0.0.0" { // what clients write who have set none
		h.Version = v
	}
	return nil
}

func (Codec) Header(frame []byte, name string) (value string) {
	_, p, err := dissect(frame)
	if err != nil {
		return ""
	}
	attachments(frame, p, func(key, v []byte, _, _ int) bool {
		if string(key) == name {
			value = string(v)
		}
		return value == ""
	})
	return value
}

func (c Codec) AppendRequest(b, frame []byte, id uint64, e rpcproxy.Edit) ([]byte, error) {
	_, p, err := dissect(frame)
	if err != nil {
		return b, err
	}
	at, kept := len(b), 0
	if e.Strip != "" {
		attachments(frame, p, func(name, _ []byte, from, to int) bool {
			if len(name) >= len(e.Strip) && string(name[:len(e.Strip)]) == e.Strip {
				b = append(b, frame[kept:from]...)
				kept = to
			}
			return true
		})
	}
	b = append(b, frame[kept:p.end]...)
	for _, h := range e.Set {
		b = put(put(b, h.Name), h.Value)
	}
	b = append(b, frame[p.end:]...)
	binary.BigEndian.PutUint32(b[at+12:], uint32(len(b)-at-head))
	c.SetID(b[at:], id)
	return b, nil
}

func (Codec) SetID(frame []byte, id uint64) { binary.BigEndian.PutUint64(frame[4:], id) }

func frame(b []byte, flags, status byte, id uint64, body string) []byte {
	b = append(b, 0xda, 0xbb, flags, status)
	b = binary.BigEndian.AppendUint64(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

func (Codec) AppendHeartbeat(b []byte, id uint64) []byte {
	return frame(b, flagRequest|flagTwoWay|flagEvent|hessian2, 0, id, "N")
}

func (Codec) AppendAlive(b []byte, f *rpcproxy.Frame) []byte {
	return frame(b, flagEvent|f.Bytes[2]&serializationMask, statusOK, f.ID, string(f.Bytes[head:]))
}

// AppendLeave is the event that a Dubbo server that ends sends: its clients keep away from the connection.
func (Codec) AppendLeave(b []byte, _ bool) []byte {
	return frame(b, flagRequest|flagEvent|hessian2, 0, 0, "\x01R")
}

// AppendError is a response with a status that is not OK, whose body is the text: clients throw it as an RpcException. Behind it,
// where clients look no further, stands what is for another sidecar.
func (Codec) AppendError(b, of []byte, e *rpcproxy.Error, sidecar bool) []byte {
	body := put(nil, rpcproxy.Plain(e.Error()))
	if sidecar {
		body = put(put(body, rpcproxy.HeaderError), rpcproxy.Plain(e.Pack()))
	}
	return frame(b, hessian2, status(e.Code), binary.BigEndian.Uint64(of[4:]), string(body))
}

// peer reads what AppendError writes for a sidecar.
func peer(body []byte) *rpcproxy.Error {
	r := reader{b: body}
	_, ok := r.text()
	name, ok2 := r.text()
	text, ok3 := r.text()
	if !ok || !ok2 || !ok3 || string(name) != rpcproxy.HeaderError {
		return nil
	}
	return rpcproxy.Unpack(string(text))
}

// AppendUnserved refuses a request that a server sends its client, as for a callback that is an argument.
func (c Codec) AppendUnserved(b []byte, f *rpcproxy.Frame) []byte {
	if f.Kind == rpcproxy.Oneway {
		return b
	}
	return c.AppendError(b, f.Bytes, &rpcproxy.Error{Code: codeUnimplement,
		Message: "requests of servers are not passed on by a sidecar: arguments that are callbacks do not work through it"}, false)
}
