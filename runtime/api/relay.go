package api

import (
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// RelayError is what a relay answers with for err: the same as Status.
func RelayError(err error) *grpcproxy.Error {
	s := Status(err)
	e := &grpcproxy.Error{Code: int(s.Code()), Message: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Metadata = d.GetReason(), d.GetMetadata()
		case *errdetails.RetryInfo:
			e.RetryDelay = d.GetRetryDelay().AsDuration()
		}
	}
	return e
}
