// Package registry keeps records of which service is reached at which address. Records are plain: what ecosystems write into
// their registries is mapped elsewhere, the same for each driver.
//
// A registration is a wish that the front keeps: it is made again when the component is replaced, and when it comes back
// from failing, until it is taken back. A watcher is told whole lists, sorted by address and without repeats.
package registry

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
)

// Drivers are the drivers of this build.
var Drivers = components.NewRegistry[Driver]("registry")

// Service is what records are kept of. Group may be empty.
//
// Folder and Cluster are set for records that other programs read and write too, in a form of theirs. Only drivers that say so have
// such records.
type Service struct {
	Namespace, Group, Name string
	// Folder is, in a registry that is a tree, the path of the node whose children are the records.
	Folder string
	// Cluster is, in Nacos, which of the service's clusters records are written to; those of all are read. An instance of weight 1 in
	// Nacos has 100 here.
	Cluster string
}

// Foreign tells whether other programs than sidecars know the records.
func (s Service) Foreign() bool { return s.Folder != "" || s.Cluster != "" }

// Record says that a service is reached at an address.
type Record struct {
	Service
	Address  string // HOST:PORT
	Weight   int    // relative to the service's other records; 0 gets no calls
	Metadata map[string]string
	// Node and Data are a record in a Folder as it is there: a child's name, as in the tree, and its content. One that is watched has
	// nothing else, since only who knows the form finds the address in it.
	Node, Data string
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

// Foreigners is implemented by drivers that have records of foreign services. It answers why one cannot be had, or nil.
type Foreigners interface {
	CheckForeign(s Service) error
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

// Driver is the name of the component's driver.
func (r *Registry) Driver() string { return r.component.ID().Driver }

// able refuses a foreign service that the driver does not have.
func able(d Driver, s Service) error {
	if !s.Foreign() {
		return nil
	}
	if f, ok := d.(Foreigners); ok {
		return f.CheckForeign(s)
	}
	return fmt.Errorf("%w: this registry has no records of other programs' form", components.ErrUnsupported)
}
