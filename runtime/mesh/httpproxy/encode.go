package httpproxy

import "strconv"

func (h *Head) appendFields(b []byte) []byte {
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.kind == kindPlain && !f.drop {
			b = append(b, f.Name...)
			b = append(b, ": "...)
			b = append(b, f.Value...)
			b = append(b, "\r\n"...)
		}
	}
	return b
}

func (h *Head) appendFraming(b []byte, length int64, chunked bool) []byte {
	if chunked {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for i := range h.Fields {
			if h.tra && h.Fields[i].kind == kindTrailer {
				b = append(append(append(b, "Trailer: "...), h.Fields[i].Value...), "\r\n"...)
			}
		}
	} else if length >= 0 {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), length, 10), "\r\n"...)
	}
	return b
}

func (h *Head) appendRequest(b []byte, name string) []byte {
	b = append(b, h.Method...)
	b = append(b, ' ')
	b = append(b, h.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if h.Host == nil {
		b = append(b, name...)
	} else {
		b = append(b, h.Host...)
	}
	b = append(b, "\r\n"...)
	b = h.appendFraming(h.appendFields(b), h.length, h.chunked)
	if h.expect {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	if h.upgrade != nil {
		b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), h.upgrade...), "\r\n"...)
	} else if h.te {
		b = append(b, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	return append(b, "\r\n"...)
}

func (h *Head) appendResponse(b []byte, length int64, chunked bool, connection string) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(h.status), 10)
	b = append(b, ' ')
	b = append(b, h.reason...)
	b = append(b, "\r\n"...)
	b = h.appendFraming(h.appendFields(b), length, chunked)
	return append(append(b, connection...), "\r\n"...)
}
