package telemetry

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Entry is one proxied request. Empty fields are left out of the line.
type Entry struct {
	Time      time.Time // when it began
	Direction string    // inbound or outbound
	Protocol  string    // grpc, http, bolt, dubbo or tcp
	Service   string
	Method    string
	Source    string // the application it came from, NAMESPACE/APP
	Rule      string // what decided where it goes
	Upstream  string // the address it went to
	Attempts  int
	Flag      string // why it failed: no-route, connect-failed, closed, timeout, limited, breaker, ...
	Code      int    // the status of its protocol; -1: it ended without one
	Duration  time.Duration
	BytesIn   int64 // of bodies, from who asks
	BytesOut  int64 // and to it
}

// fields hands each field of an entry to the writer of a format, in the order they stand in a line.
func (e *Entry) fields(b []byte, text func(b []byte, key, value string) []byte, number func(b []byte, key string, value int64) []byte) []byte {
	b = text(b, "direction", e.Direction)
	b = text(b, "protocol", e.Protocol)
	b = text(b, "service", e.Service)
	b = text(b, "method", e.Method)
	b = text(b, "source", e.Source)
	b = text(b, "rule", e.Rule)
	b = text(b, "upstream", e.Upstream)
	b = number(b, "attempts", int64(e.Attempts))
	b = text(b, "flag", e.Flag)
	b = text(b, "code", codeName(e.Protocol, e.Code))
	b = number(b, "duration_us", e.Duration.Microseconds())
	b = number(b, "bytes_in", e.BytesIn)
	return number(b, "bytes_out", e.BytesOut)
}

func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().Truncate(time.Microsecond).AppendFormat(b, time.RFC3339Nano)
}

func appendText(b []byte, e *Entry) []byte {
	b = appendTime(append(b, "time="...), e.Time)
	return e.fields(b, textPair, textNumber)
}

func textPair(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, ' '), key...), '=')
	if plain(value) {
		return append(b, value...)
	}
	return strconv.AppendQuote(b, value)
}

func textNumber(b []byte, key string, value int64) []byte {
	return strconv.AppendInt(append(append(append(b, ' '), key...), '='), value, 10)
}

// plain answers whether value needs no quotes, so that a request cannot make up fields or lines.
func plain(value string) bool {
	for i := 0; i < len(value); i++ {
		if c := value[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\' {
			return false
		}
	}
	return true
}

func appendJSON(b []byte, e *Entry) []byte {
	b = appendTime(append(b, `{"time":"`...), e.Time)
	b = e.fields(append(b, '"'), jsonPair, jsonNumber)
	return append(b, '}')
}

func jsonPair(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, `,"`...), key...), `":"`...)
	for i := 0; i < len(value); {
		r, size := utf8.DecodeRuneInString(value[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, `\ufffd`...)
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			const hex = "0123456789abcdef"
			b = append(b, `\u00`...)
			b = append(b, hex[r>>4], hex[r&15])
		default:
			b = append(b, value[i:i+size]...)
		}
		i += size
	}
	return append(b, '"')
}

func jsonNumber(b []byte, key string, value int64) []byte {
	return strconv.AppendInt(append(append(append(b, `,"`...), key...), `":`...), value, 10)
}
