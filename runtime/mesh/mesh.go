// Package mesh decides where calls go, and which come in. It is plain data and decisions: no transport is here, and each
// transport (gRPC, HTTP/1.1, binary RPC protocols) asks the same Engine and Inbound, so that a policy means the same in all of them.
package mesh

import (
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Service is what calls are addressed to. Group, Version and Protocol may be empty; a namespace never is.
type Service struct {
	Namespace, Name, Group, Version, Protocol string
}

// HTTP is the protocol of services that are called by HTTP/1.1.
const HTTP = "http"

// TCP is that of services whose connections pass as they are.
const TCP = "tcp"

// String is NAMESPACE/NAME, or nothing for a service without a name.
func (s Service) String() string {
	if s.Name == "" {
		return ""
	}
	return s.Namespace + "/" + s.Name
}

// Instance is one address of a service, immutable once it is in a Snapshot.
type Instance struct {
	Address  string // HOST:PORT, of the instance's sidecar
	Weight   int    // relative to the others; 0 gets no calls
	Zone     string
	Labels   Labels
	Identity string // the SPIFFE id that its certificate must have; "": any that the CA has signed
	Direct   bool   // Address is the application's own: no sidecar is there, so no TLS and no headers of sidecars
	Protocol string // what the application speaks; "": whatever it is called with
}

// Request is what an outbound decision is made from. It is valid during the call it is handed to.
type Request struct {
	Protocol   string // grpc, http, bolt, dubbo, tcp
	Service    Service
	Method     string
	Source     components.Caller
	Hops       int                      // sidecars it has passed already
	Timeout    time.Duration            // what the caller allows; 0: no bound
	Header     func(name string) string // the first value of that name, or ""
	Repeatable bool                     // safe to be handled twice, by its protocol: an idempotent method of HTTP, or a key that tells repeats
}

// Outcome is how one attempt ended.
type Outcome int

// What an attempt can tell of the instance it went to.
const (
	Unknown     Outcome = iota // nothing: the caller gave up, or the instance sent the call away unhandled, as one that drains does
	Answered                   // it answered, whatever it said
	Failed                     // it is to blame: it broke off, or was silent until the end of the time
	Unreachable                // no connection to it could be made, or its sidecar says that its application is gone or does not serve this
)

// Attempt is one instance's turn at a request.
type Attempt interface {
	// Instance is where it goes.
	Instance() *Instance
	// Report tells how it ended; once for each attempt, by any goroutine, also after the next one has begun.
	Report(o Outcome)
}

// Plan is the engine's answer for one request. Its methods are called by one goroutine at a time.
type Plan interface {
	// Rule names what decided, for the access log.
	Rule() string
	// Timeout bounds the request; 0: no bound.
	Timeout() time.Duration
	// Next begins an attempt, at an instance that failed before only when there is no other. It fails with ErrUnavailable
	// when there is no instance at all.
	Next() (Attempt, error)
	// PerTry bounds each attempt; 0: no bound of its own.
	PerTry() time.Duration
	// Again says whether the request may be tried once more after an attempt that ended so, and takes it from the budget; the
	// transport then calls Next. It is false, too, when the call may have been begun and is not safe to repeat.
	Again(f Failure) bool
}

// Repeatable says whether a plan may have its call handled twice, by what the request or the policies say: then it is worth keeping
// what of it was sent.
func Repeatable(p Plan) bool {
	r, ok := p.(interface{ Repeatable() bool })
	return ok && r.Repeatable()
}

// FlagBreaker is the flag, in the access log, of a call that is refused with ReasonBreaker.
const FlagBreaker = "breaker"

// Failure is how an attempt failed.
type Failure struct {
	Kind   FailureKind
	Sent   bool   // any of the request may have reached the instance's application
	Status string // with the kind Status: the protocol's own text, such as "503", "UNAVAILABLE", "7"
}

// FailureKind tells what became of an attempt.
type FailureKind int

// The kinds of failures.
const (
	Connect FailureKind = iota // no connection could be made
	Closed                     // the connection ended before the answer did
	Refused                    // the instance sent the request away before it was begun
	Reset                      // the instance ended the request without an answer
	Timeout                    // PerTry passed
	Status                     // it answered with a failure
	NotHere                    // it says that it does not serve what it is asked for
)

// Engine decides for outbound calls. Safe for concurrent use.
type Engine interface {
	// Route answers a plan, or a refusal with one of the kinds of errors. It never waits: while a service's instances are
	// not known yet it answers a *Pending error.
	Route(r *Request) (Plan, error)
}

// Pending says that the answer is on its way. Wait has resume called once, from any goroutine, when it is worth asking
// again; it does not block.
type Pending struct {
	Wait func(resume func())
}

func (*Pending) Error() string { return "the instances of the service are not known yet" }

// Inbound decides for calls that come in for the application. Safe for concurrent use.
type Inbound interface {
	// Admit takes a call in, or refuses it with one of the kinds of errors. Each call that it takes in needs one Leave.
	Admit(r *Request) error
	Leave()
}

// Reasons of refusals.
const (
	ReasonNoService     components.Reason = "SERVICE_UNNAMED"   // the call does not say which service it is for
	ReasonNoInstance    components.Reason = "NO_INSTANCE"       // nobody has published the service
	ReasonTooManyHops   components.Reason = "TOO_MANY_HOPS"     // the call goes round in a circle
	ReasonAppBusy       components.Reason = "APP_BUSY"          // the application handles as many calls as it may
	ReasonNotForThisApp components.Reason = "SERVICE_NOT_HERE"  // the call is for a service of another application
	ReasonRegistryAway  components.Reason = "REGISTRY_AWAY"     // the registry has not answered yet
	ReasonBreaker       components.Reason = "BREAKER_OPEN"      // as many calls as the policy allows are under way
	ReasonNotFound      components.Reason = "SERVICE_NOT_FOUND" // for Resolve: nobody has published the service
)
