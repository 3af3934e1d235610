package bolt

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// response appends one to a frame, in that one's version.
func response(b, to []byte, id uint32, cmd, status uint16, codec byte, class, headers, body string) []byte {
	s, _, _ := measure(to)
	at := len(b)
	b = append(b, s.version)
	if s.version == v2 {
		b = append(b, to[1])
	}
	b = append(b, typeResponse)
	b = binary.BigEndian.AppendUint16(b, cmd)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, codec)
	if s.version == v2 {
		b = append(b, to[s.codec+1])
	}
	b = binary.BigEndian.AppendUint16(b, status)
	b = binary.BigEndian.AppendUint16(b, uint16(len(class)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(headers)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(append(append(b, class...), headers...), body...)
	if s.sum != 0 {
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
	}
	return b
}

func (Codec) AppendHeartbeat(b []byte, id uint64) []byte {
	return command(b, typeRequest, cmdHeartbeat, uint32(id))
}

// command appends a request of version 1 without a body.
func command(b []byte, kind byte, cmd uint16, id uint32) []byte {
	b = append(b, v1, kind)
	b = binary.BigEndian.AppendUint16(b, cmd)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, codecHessian)
	return append(b, make([]byte, 12)...)
}

func (Codec) AppendAlive(b []byte, f *rpcproxy.Frame) []byte {
	s, _, _ := measure(f.Bytes)
	return response(b, f.Bytes, uint32(f.ID), cmdHeartbeat, statusSuccess, f.Bytes[s.codec], "", "", "")
}

// AppendLeave tells sidecars alone: a stock client takes the command for a fault.
func (Codec) AppendLeave(b []byte, sidecar bool) []byte {
	if !sidecar {
		return b
	}
	return command(b, typeOneway, cmdLeave, 0)
}

const (
	classRequest  = "com.alipay.sofa.rpc.core.request.SofaRequest"
	classResponse = "com.alipay.sofa.rpc.core.response.SofaResponse"

	headerTarget = "sofa_head_target_service"
	headerFailed = "sofa_head_response_error"
)

// AppendError answers a SOFARPC request with a response of the service's that carries the text: it is the only one of which
// clients show their callers more than a number. A timeout, and a server that is busy, have a status of their own, which
// Java's client tells apart by its exceptions, whatever the body is, and sidecars for their retries. Node's takes a body beside a
// status for an exception that it cannot show, or, if it is a text, for garbage that ends its connection with all calls on it.
// Whatever is not SOFARPC's has a status, too.
func (Codec) AppendError(b, frame []byte, e *rpcproxy.Error, sidecar bool) []byte {
	s, _, _ := measure(frame)
	id := binary.BigEndian.Uint32(frame[s.id:])
	codec, text := frame[s.codec], rpcproxy.Plain(e.Error())
	sofa := string(frame[s.class:s.headers]) == classRequest
	var headers []byte
	if sidecar {
		headers = put(put(nil, rpcproxy.HeaderError), rpcproxy.Plain(e.Pack()))
	}
	status, class, body := statusOf(e.Code), "", text
	tells := sidecar || len(find(frame[s.headers:s.body], headerTarget)) > 0 // Node's client has the service in its body, and in "service"
	switch {
	case sofa && codec == codecHessian && tells && (status == statusTimeout || status == statusThreadpoolBusy):
		body = string(hessianText(nil, text))
	case sofa && codec == codecHessian:
		class, body = classResponse, sofaResponse(text)
	case sofa && codec == codecProtobuf && status != statusTimeout && status != statusThreadpoolBusy:
		class = classResponse
		headers = put(put(headers, headerFailed), "true")
	}
	if class != "" {
		status = statusSuccess
	}
	return response(b, frame, id, cmdResponse, status, codec, class, string(headers), body)
}

func statusOf(code int) uint16 {
	switch code {
	case codeDeadline:
		return statusTimeout
	case codeExhausted:
		return statusThreadpoolBusy
	case codeUnavailable:
		return statusConnectionClosed
	case codeUnimplement:
		return statusNoProcessor
	}
	return statusServerException
}

// AppendUnserved refuses a request that a server sends to its clients, which Bolt allows: of those behind us none could be told
// from another.
func (c Codec) AppendUnserved(b []byte, f *rpcproxy.Frame) []byte {
	if f.Kind == rpcproxy.Oneway {
		return b
	}
	return c.AppendError(b, f.Bytes, &rpcproxy.Error{Code: codeUnimplement, Message: "requests of servers are not passed on by a sidecar"}, false)
}
