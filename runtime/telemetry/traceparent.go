package telemetry

import (
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// Traceparent is the header of W3C Trace Context that says which span a request belongs under.
type Traceparent struct {
	TraceID trace.TraceID
	SpanID  trace.SpanID
	Flags   trace.TraceFlags
}

// traceparentLen is the length of version 00: 2 + 32 + 16 + 2 digits and three dashes.
const traceparentLen = 55

// ParseTraceparent reads one, without allocating. Of a version that is not known yet it reads the part it has in common with
// version 00, as the recommendation asks. What it refuses must not be passed on.
func ParseTraceparent(s string) (p Traceparent, ok bool) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Traceparent{}, false
	}
	var version, flags [1]byte
	if !unhex(version[:], s[:2]) || !unhex(p.TraceID[:], s[3:35]) || !unhex(p.SpanID[:], s[36:52]) || !unhex(flags[:], s[53:55]) {
		return Traceparent{}, false
	}
	p.Flags = trace.TraceFlags(flags[0])
	switch {
	case version[0] == 0xff, version[0] == 0 && len(s) != traceparentLen, len(s) > traceparentLen && s[55] != '-':
		return Traceparent{}, false
	}
	return p, p.TraceID.IsValid() && p.SpanID.IsValid()
}

// unhex decodes lower case digits, which are the only ones that the recommendation allows.
func unhex(to []byte, s string) bool {
	for i := range to {
		hi, lo := digit(s[2*i]), digit(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		to[i] = hi<<4 | lo
	}
	return true
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// String writes it as version 00.
func (p Traceparent) String() string {
	b := make([]byte, 0, traceparentLen)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, p.TraceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, p.SpanID[:])
	b = append(b, '-')
	return string(hex.AppendEncode(b, []byte{byte(p.Flags)}))
}
