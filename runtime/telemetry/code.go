package telemetry

import "strconv"

// grpcCodes are the names that the gRPC specification gives its statuses.
var grpcCodes = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// statuses holds the names of numeric codes, so that naming one allocates nothing.
var statuses = func() (names [1000]string) {
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}()

// codeName is a protocol's status as a label and in the access log. It answers few enough names to be a label whatever a peer sends.
func codeName(protocol string, code int) string {
	switch {
	case code < 0:
		return "none"
	case protocol != "http" && code < len(grpcCodes):
		return grpcCodes[code]
	case protocol != "http" || code >= len(statuses):
		return other
	}
	return statuses[code]
}
