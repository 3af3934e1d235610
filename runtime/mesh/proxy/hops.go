package proxy

import (
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"
)

// How many sidecars a call has passed travels twice: in HeaderHops, which our SDK hands on, and in a member of the call's W3C
// tracestate, which applications hand on that are instrumented for traces and know nothing of us. The larger count holds.
//
// A proxy may add to the tracestate though it leaves the traceparent as it is (Trace Context, section 4.4). Ours is the member
// "outrigger=h:N"; it is set in front, and the others stay as they are and in order (section 3.5).
const (
	hopsMember = "outrigger"
	hopsKey    = "h:"

	maxMembers = 32  // of a tracestate
	maxState   = 512 // bytes that everyone must be able to pass on
)

// hopsOf reads how many sidecars a request has passed.
func hopsOf(h *grpcproxy.Headers) int {
	hops := parseHops(h.Get(HeaderHops))
	if !traced(h.Get("traceparent")) {
		return hops
	}
	return max(hops, stateHops(stateOf(h)))
}

// parseHops takes what is no small number for many.
func parseHops(text string) int {
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 1 << 20
	}
	return n
}

// stateOf is the request's tracestate: several fields of that name are one list.
func stateOf(h *grpcproxy.Headers) (state string) {
	for _, f := range h.Fields {
		if f.Name != "tracestate" {
			continue
		}
		if state == "" {
			state = f.Value
		} else if f.Value != "" {
			state += "," + f.Value
		}
	}
	return state
}

// stateHops reads the count in a tracestate. What cannot be read counts for nothing: a trace must not break a call.
func stateHops(state string) (hops int) {
	if !strings.Contains(state, hopsMember) {
		return 0
	}
	for member := range strings.SplitSeq(state, ",") {
		key, value, _ := strings.Cut(strings.Trim(member, " \t"), "=")
		if digits, ok := strings.CutPrefix(value, hopsKey); ok && key == hopsMember {
			if n, err := strconv.ParseUint(digits, 10, 20); err == nil {
				hops = max(hops, int(n))
			}
		}
	}
	return hops
}

// setStateHops writes the count of a request that is part of a trace into its tracestate. A list that is broken, or has no room,
// stays as it is.
func setStateHops(h *grpcproxy.Headers, traceparent string, hops int) {
	if !traced(traceparent) {
		return
	}
	if state, ok := withHops(stateOf(h), hops); ok {
		h.Del("tracestate")
		h.Set("tracestate", state)
	}
}

// traced tells whether there is a trace: without a valid traceparent a tracestate means nothing (section 3.3).
func traced(traceparent string) bool {
	if traceparent == "" {
		return false
	}
	_, ok := telemetry.ParseTraceparent(traceparent)
	return ok
}

// withHops is a tracestate with the count in it; false if it must stay as it is.
func withHops(state string, hops int) (string, bool) {
	all := make([]string, 1, 4)
	all[0] = hopsMember + "=" + hopsKey + strconv.Itoa(hops)
	for member := range strings.SplitSeq(state, ",") {
		member = strings.Trim(member, " \t")
		key, value, found := strings.Cut(member, "=")
		switch {
		case member == "" || key == hopsMember:
			continue
		case !found || !isKey(key) || !isValue(value):
			return "", false
		}
		all = append(all, member)
	}
	made := strings.Join(all, ",")
	return made, len(all) <= maxMembers && (len(made) <= maxState || len(made) <= len(state))
}

// isKey tells whether a tracestate may have a key: NAME or TENANT@NAME.
func isKey(key string) bool {
	const most = 256
	return key != "" && len(key) <= most && strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789_-*/@") == ""
}

// isValue tells whether it may have a value: visible ASCII and spaces, without a comma or an equals sign.
func isValue(value string) bool {
	const most = 256
	return value != "" && len(value) <= most && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' || r == '=' })
}
