package grpcproxy

import (
	"encoding/binary"
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const ( // frame types
	fData = iota
	fHeaders
	fPriority
	fReset
	fSettings
	fPush
	fPing
	fGoAway
	fWindow
	fContinuation
)

const ( // flags
	flagEnd        = 0x1 // and ACK of SETTINGS and PING
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const ( // settings
	setTableSize = iota + 1
	setPush
	setMaxStreams
	setWindow
	setMaxFrame
	setMaxHeaderList
)

// HTTP/2 error codes.
const (
	codeNo = iota
	codeProtocol
	codeInternal
	codeFlowControl
	codeSettingsTimeout
	codeStreamClosed
	codeFrameSize
	codeRefused
	codeCancel
	codeCompression
	codeConnect
	codeCalm
)

const (
	frameHeader = 9
	maxFrame    = 16384 // the size every peer must take, and the one we ask for
)

// connError ends a connection with a GOAWAY.
type connError struct {
	code uint32
	msg  string
}

func (e connError) Error() string { return e.msg }

func appendFrame(b []byte, n int, typ, flags byte, id uint32) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), typ, flags, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendU32(b []byte, typ byte, id, v uint32) []byte { // WINDOW_UPDATE and RST_STREAM
	return binary.BigEndian.AppendUint32(appendFrame(b, 4, typ, 0, id), v)
}

func appendGoAway(b []byte, last, code uint32, msg string) []byte {
	b = appendFrame(b, 8+len(msg), fGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, msg...)
}

func appendSettings(b []byte, kv ...uint32) []byte {
	b = appendFrame(b, len(kv)*3, fSettings, 0, 0)
	for i := 0; i < len(kv); i += 2 {
		b = binary.BigEndian.AppendUint16(b, uint16(kv[i]))
		b = binary.BigEndian.AppendUint32(b, kv[i+1])
	}
	return b
}
