// Package registry keeps records of which service is reached at which address. Records are plain: what ecosystems write into
// their registries is mapped elsewhere, the same for each driver.
//
// A registration is a wish that the front keeps: it is made again when the component is replaced, and when it comes back
// from failing, until it is taken back. A watcher is told whole lists, sorted by address and without repeats.
package registry

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components"
)

// Drivers are the drivers of this build.
var Drivers = components.NewRegistry[Driver]("registry")

// Service is what records are kept of. Group may be empty.
type Service struct {
	Namespace, Group, Name string
}

// Record says that a service is reached at an address.
type Record struct {
	Service
	Address  string // HOST:PORT
	Weight   int    // relative to the service's other records; 0 gets no calls
	Metadata map[string]string
}

// Driver is what a back end implements. It is safe for concurrent use.
type Driver interface {
	// Register writes a record in place of one with the same service and address, and keeps it alive until Deregister, or
	// Close, or the end of the process, after which it disappears within a time that the driver states.
	Register(ctx context.Context, r Record) error
	// Deregister removes a record of this instance; that it is absent is no error. What another instance has registered since
	// for the same address stays, here and when this one is closed: a sidecar is replaced by one that has registered before.
	Deregister(ctx context.Context, s Service, address string) error
	// Watch reports all records of the service first, of whichever process, none included, then all again whenever they
	// change, from one goroutine at a time. It blocks until ctx ends, report fails, the records cannot be read to begin
	// with (ErrUnavailable), or the back end is lost for good; an outage later it rides out.
	Watch(ctx context.Context, s Service, report func([]Record) error) error
}

// Registry is the front that the mesh uses. It is safe for concurrent use. Close it when it has registered something.
type Registry struct {
	component *components.Component[Driver]
	wanted    wanted
}

// New makes the front of a component.
func New(c *components.Component[Driver]) *Registry {
	return &Registry{component: c, wanted: wanted{wishes: map[place]*wish{}}}
}
