package grpcproxy

import (
	"strings"
)

// Field is one header field. Sensitive fields stay out of compression tables on the next hop too.
type Field struct {
	Name, Value string
	Sensitive   bool
	kind        kind
}

func (f *Field) size() int { return len(f.Name) + len(f.Value) + 32 }

// kind is worked out once, when a field enters a table, so that a field known by its index costs nothing to check.
type kind uint8

const (
	kindPlain kind = iota
	kindBad
	kindMethod
	kindScheme
	kindPath
	kindAuthority
	kindStatus
	kindTimeout
	kindGRPCStatus
	kindTE
	kindContentType
	kindEncoding
	kindLength
)

func newField(name, value string) Field {
	f := Field{Name: name, Value: value, kind: kindPlain}
	switch name {
	case ":method":
		f.kind = kindMethod
	case ":scheme":
		f.kind = kindScheme
	case ":path":
		f.kind = kindPath
		if value == "" {
			f.kind = kindBad
		}
	case ":authority":
		f.kind = kindAuthority
	case ":status":
		f.kind = kindStatus
	case "grpc-timeout":
		f.kind = kindTimeout
	case "grpc-status":
		f.kind = kindGRPCStatus
	case "content-type":
		f.kind = kindContentType
	case "content-length":
		f.kind = kindLength
	case "grpc-encoding":
		f.kind = kindEncoding
	case "te":
		f.kind = kindTE
		if value != "trailers" {
			f.kind = kindBad
		}
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		f.kind = kindBad
	default:
		if !validName(name) {
			f.kind = kindBad
		}
	}
	if strings.ContainsAny(value, "\x00\r\n") {
		f.kind = kindBad
	}
	return f
}

func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || 'A' <= c && c <= 'Z' || c == ':' {
			return false
		}
	}
	return s != ""
}

// staticNames is the static table of RFC 7541, Appendix A.
const staticNames = ":authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|" +
	":status=204|:status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|" +
	"accept-encoding=gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|" +
	"authorization|cache-control|content-disposition|content-encoding|content-language|content-length|" +
	"content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|" +
	"if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|" +
	"proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|" +
	"strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"

var staticTable = func() (t [62]Field) {
	for i, line := range strings.Split(staticNames, "|") {
		n, v, _ := strings.Cut(line, "=")
		t[i+1] = newField(n, v)
	}
	return
}()
