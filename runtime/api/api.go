// Package api is what the front-ends of the sidecar share: for whom a call is (CallerFrom), how errors become statuses
// (Status), and the Guard around each method, the same whichever engine serves it. The front-ends themselves are in the
// folders below.
package api

// Components finds a capability's components by the names that applications use; "" means the one called default. Get
// answers ErrNotFound, reason COMPONENT_NOT_FOUND, for one that is not configured, and says which there are. Safe for
// concurrent use.
type Components[F any] interface {
	Get(name string) (F, error)
}
