package mesh

import (
	"strconv"
	"strings"
)

// Unavailable stands in retry.on for whatever says that an instance could not do its work: all kinds of failures save Status, and of statuses
// those that say so.
const Unavailable = "unavailable"

const fiveXX = "5xx"

// kinds are the failures that are the same in all protocols.
var kinds = map[string]FailureKind{"connect": Connect, "closed": Closed, "refused": Refused, "reset": Reset, "timeout": Timeout}

// grpcCodes are those that a retry may be made of, by the name that gRPC writes in lower case.
var grpcCodes = map[string]string{"cancelled": "1", "unknown": "2", "deadline_exceeded": "4", "resource_exhausted": "8", "aborted": "10",
	"internal": "13", Unavailable: "14"}

// unavailable are the statuses of each protocol that say so: of gRPC UNAVAILABLE; of HTTP 502, 503 and 504; of Bolt SERVER_THREADPOOL_BUSY and
// NO_PROCESSOR; of Dubbo SERVER_THREADPOOL_EXHAUSTED.
var unavailable = map[string][]string{"grpc": {"14"}, "http": {"502", "503", "504"}, "bolt": {"4", "6"}, "dubbo": {"100"}}

func knownFailure(name string) bool {
	_, kind := kinds[name]
	_, code := grpcCodes[name]
	_, err := strconv.ParseUint(name, 10, 16)
	return kind || code || name == fiveXX || err == nil
}

// of tells whether on, an entry of retry.on, is about the failure of a call in that protocol.
func (f *Failure) of(on, protocol string) bool {
	if f.Kind != Status {
		kind, ok := kinds[on]
		return on == Unavailable || ok && kind == f.Kind
	}
	status := strings.ToLower(f.Status)
	if protocol == "grpc" {
		if number, ok := grpcCodes[status]; ok {
			status = number
		}
		if number, ok := grpcCodes[on]; ok {
			on = number
		}
		return on == status
	}
	switch on {
	case Unavailable:
		for _, s := range unavailable[protocol] {
			if s == status {
				return true
			}
		}
		return false
	case fiveXX:
		return len(status) == 3 && status[0] == '5'
	}
	return on == status
}
