// Package components is what capabilities and drivers have in common: the registry of drivers, the configured instance of
// one (Component), the kinds of errors, and the few values that options are made of. It knows no capability and no driver.
package components

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Caller is the application a call is made for. It comes from the socket or the peer's certificate, never from a request's
// fields.
type Caller struct {
	Namespace, App string
}

func (c Caller) String() string { return c.Namespace + "/" + c.App }

// ID names a component in logs, metrics and errors.
type ID struct {
	Capability string // cache, config, ...
	Name       string // what applications call it
	Driver     string
}

// Env is what a driver is lent for one instance. Nothing in it is shared between two instances, save the data folder and Shared.
type Env struct {
	ID      ID
	Logger  *slog.Logger          // has capability, component and driver already
	Meter   prometheus.Registerer // labelled with the component; what is registered here goes with the instance
	DataDir string                // a folder that belongs to the sidecar and outlives it
	Shared  *Shared               // what the instances of the process have in common; nil: nothing
}

// Closer is what a driver implements that holds something. Close flushes, then returns; it may be called more than once.
type Closer interface {
	Close(ctx context.Context) error
}

// Checker is what a driver implements that can tell whether its back end would serve a call now.
type Checker interface {
	Check(ctx context.Context) error
}

// Instant is what a driver implements whose calls never wait, neither for a disk or the network nor for a lock that is held
// for long: they may run where nothing may wait, such as on the reader of a connection.
type Instant interface {
	Instant()
}

// Exclusive is what an Options struct implements whose driver holds something that two instances cannot hold at once, such as a
// lock on a file: on a reload the old instance is closed before the new one is opened.
type Exclusive interface {
	Exclusive() bool
}

// Validator is what an Options struct implements to refuse values that cannot work together. Each fault is one error of
// errors.Join.
type Validator interface {
	Validate() error
}

// Describer is what an Options struct implements to say, in a few lines of Markdown, what its driver guarantees.
type Describer interface {
	Guarantees() string
}
