package grpcproxy

import (
	"strconv"
)

const (
	trailerList = iota
	requestList
	responseList
)

// malformed checks a header list as RFC 9113 section 8 wants it.
func malformed(fields []Field, list int) bool {
	var seen [16]bool
	regular := false
	for i := range fields {
		k := fields[i].kind
		switch k {
		case kindBad:
			return true
		case kindMethod, kindScheme, kindPath, kindAuthority, kindStatus:
			if regular || seen[k] || list == trailerList || (k == kindStatus) != (list == responseList) {
				return true
			}
			seen[k] = true
			if k == kindStatus && len(fields[i].Value) != 3 {
				return true
			}
		default:
			regular = true
		}
	}
	switch list {
	case requestList:
		return !seen[kindMethod] || !seen[kindScheme] || !seen[kindPath]
	case responseList:
		return !seen[kindStatus]
	}
	return false
}

// length is what content-length says, or -1; not ok: what it says makes no sense.
func (h *Headers) length() (n int64, ok bool) {
	v := h.kind(kindLength)
	if v == "" {
		return -1, true
	}
	u, err := strconv.ParseUint(v, 10, 62)
	return int64(u), err == nil
}
