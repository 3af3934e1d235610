package components

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Registry holds the drivers of one capability, whose driver interface is T. Drivers register in init functions; after
// that it is only read.
type Registry[T any] struct {
	capability string
	drivers    map[string]driver[T]
}

type driver[T any] struct {
	defaults any
	decode   func(load func(any) error) (any, error)
	open     func(context.Context, Env, any) (T, error)
}

// Catalog is a Registry without its type: what configuration, schema and docs need of it.
type Catalog interface {
	Capability() string
	// Drivers are the names, sorted.
	Drivers() []string
	// Defaults is a driver's Options struct as it is before any configuration.
	Defaults(driver string) (options any, ok bool)
	// Decode lets load fill a copy of the driver's defaults and validates the result. An error of load comes back as it is.
	Decode(driver string, load func(options any) error) (options any, err error)
}

var catalogs = struct {
	sync.Mutex
	all map[string]Catalog
}{all: map[string]Catalog{}}

// Catalogs are those of all capabilities in this build, sorted by name.
func Catalogs() []Catalog {
	catalogs.Lock()
	defer catalogs.Unlock()
	all := make([]Catalog, 0, len(catalogs.all))
	for _, name := range slices.Sorted(maps.Keys(catalogs.all)) {
		all = append(all, catalogs.all[name])
	}
	return all
}

// NewRegistry makes the registry of a capability, once in the process: the same name again panics.
func NewRegistry[T any](capability string) *Registry[T] {
	r := NewPrivateRegistry[T](capability)
	catalogs.Lock()
	defer catalogs.Unlock()
	if _, taken := catalogs.all[capability]; taken {
		panic("components: capability " + capability + " is declared twice")
	}
	catalogs.all[capability] = r
	return r
}

// NewPrivateRegistry makes one that Catalogs does not list, for tests.
func NewPrivateRegistry[T any](capability string) *Registry[T] {
	return &Registry[T]{capability: capability, drivers: map[string]driver[T]{}}
}

// Register adds a driver: its options' defaults, and how to open an instance. open checks, dials and fails fast; what it
// opened before it failed it closes. A name that is taken panics.
func Register[T, O any](r *Registry[T], name string, defaults O, open func(context.Context, Env, O) (T, error)) {
	if _, taken := r.drivers[name]; taken {
		panic("components: " + r.capability + " driver " + name + " is registered twice")
	}
	r.drivers[name] = driver[T]{
		defaults: defaults,
		decode: func(load func(any) error) (any, error) {
			o := defaults
			if err := load(&o); err != nil {
				return nil, err
			}
			if v, ok := any(o).(Validator); ok {
				if err := v.Validate(); err != nil {
					return nil, err
				}
			}
			return o, nil
		},
		open: func(ctx context.Context, env Env, o any) (T, error) { return open(ctx, env, o.(O)) },
	}
}

// Capability is whose drivers they are.
func (r *Registry[T]) Capability() string { return r.capability }

// Drivers are the names, sorted.
func (r *Registry[T]) Drivers() []string { return slices.Sorted(maps.Keys(r.drivers)) }

// Defaults is a driver's Options struct as it is before any configuration; false if there is no such driver.
func (r *Registry[T]) Defaults(name string) (any, bool) {
	d, ok := r.drivers[name]
	return d.defaults, ok
}

// Decode lets load fill a copy of the driver's defaults and validates the result. An error of load comes back as it is.
func (r *Registry[T]) Decode(name string, load func(any) error) (any, error) {
	d, ok := r.drivers[name]
	if !ok {
		return nil, fmt.Errorf("unknown driver %q", name)
	}
	return d.decode(load)
}

// Open opens an instance with options that Decode answered.
func (r *Registry[T]) Open(ctx context.Context, name string, env Env, options any) (T, error) {
	d, ok := r.drivers[name]
	if !ok {
		var none T
		return none, fmt.Errorf("unknown %s driver %q", r.capability, name)
	}
	return d.open(ctx, env, options)
}
