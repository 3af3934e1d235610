package mesh

import (
	"fmt"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

// ReasonUnknownMethod is what a call of a method is refused with that the sidecar does not have, and sends to nobody.
const ReasonUnknownMethod components.Reason = "UNKNOWN_METHOD"

// own are the beginnings of methods that are never proxied, whichever way a call goes.
var own = [...]string{"outrigger.", "grpc.", "dapr."}

// Own tells whether a method, with or without the slash before it, is never proxied: it is a sidecar's, or nobody's.
func Own(method string) bool {
	method = strings.TrimLeft(method, "/")
	for _, prefix := range own {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return false
}

// CheckMethod refuses a method that is never proxied.
func CheckMethod(method string) error {
	if !Own(method) {
		return nil
	}
	return components.WithReason(fmt.Errorf("%w: method %.128q is not sent to applications: those that begin with %s are sidecars' own",
		components.ErrUnsupported, method, strings.Join(own[:], ", ")), ReasonUnknownMethod)
}
