// Package proxy binds the transports to the mesh's decisions: it asks the engine where a call of the application goes, lets
// calls for the application in, and tells the monitor of each.
package proxy

import (
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// The headers that sidecars speak to each other with. All others that begin with "outrigger-" are taken out of what
// applications send.
const (
	HeaderService = "outrigger-service" // NAME or NAMESPACE/NAME
	HeaderHops    = "outrigger-hops"    // sidecars passed; applications may hand it on, so that circles are found
	HeaderSource  = "outrigger-source"  // NAMESPACE/APP of the caller's sidecar, for logs: no identity
	HeaderOrigin  = "outrigger-origin"  // of an answer: app, sidecar or peer
	headerPrefix  = "outrigger-"

	HeaderIdempotent = "outrigger-idempotent" // "true": the call may be repeated though it may have been handled
	keyHeader        = "idempotency-key"      // a key by which the application tells repeats
)

// Record is one proxied request, as the monitor sees it.
type Record struct {
	Direction   string // outbound or inbound
	Protocol    string
	Service     mesh.Service
	Method      string
	Source      string // NAMESPACE/APP
	Rule        string
	Upstream    string // HOST:PORT
	Attempts    int
	Flag        string // "" or why it failed
	Code        int    // a gRPC status code
	Status      string // the protocol's own, if that is another; "": it ended without one
	Sent        int64  // bytes to the upstream
	Received    int64
	Start       time.Time
	Duration    time.Duration
	Traceparent string // as it came; Begin may replace it by what is sent on
	Tracestate  string
	Span        any // the monitor's own
}

// Monitor is told of each request. It must be fast and safe for concurrent use.
type Monitor interface {
	Begin(r *Record)
	End(r *Record)
}

// call is a request between Route and Done.
type call struct {
	Record
	plan     mesh.Plan
	hops     int  // sidecars passed before this one
	admitted bool // the gate must hear of the end
	self     bool // the application calls itself, which is counted

	repeatable bool // its caller says so
	direct     bool // the attempt went to an application that has no sidecar
	dead       bool // the instance's sidecar said that it cannot connect to its application

	mu    sync.Mutex
	open  []attempt // begun and not reported
	first [1]attempt
}

// attempt is one that was begun, known by where the relay says it went.
type attempt struct {
	up   *grpcproxy.Upstream
	to   mesh.Attempt
	lost bool // the instance's sidecar said that its application has broken off, or answers what is no gRPC
}

func (c *call) began(up *grpcproxy.Upstream, to mesh.Attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = c.first[:0]
	}
	c.open = append(c.open, attempt{up: up, to: to})
}

// ended reports the oldest attempt at up that is open, if there is one: the relay may tell of an attempt's end when the next one
// has begun already.
func (c *call) ended(up *grpcproxy.Upstream, o mesh.Outcome) {
	c.mu.Lock()
	i := slices.IndexFunc(c.open, func(a attempt) bool { return a.up == up })
	if i < 0 {
		c.mu.Unlock()
		return
	}
	ended := c.open[i]
	c.open = slices.Delete(c.open, i, i+1)
	c.mu.Unlock()
	if ended.lost && o == mesh.Answered {
		o = mesh.Failed
	}
	ended.to.Report(o)
}

// lost keeps of the attempt that began last that its application has broken off, or does not speak gRPC.
func (c *call) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.open); n > 0 {
		c.open[n-1].lost = true
	}
}

// broke tells whether lost was said of the attempt that began last.
func (c *call) broke() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open) > 0 && c.open[len(c.open)-1].lost
}

// clean takes out what only sidecars may say, save the header named keep.
func clean(h *grpcproxy.Headers, keep string) {
	h.Fields = slices.DeleteFunc(h.Fields, func(f grpcproxy.Field) bool {
		return strings.HasPrefix(f.Name, headerPrefix) && f.Name != keep
	})
}

// trace hands the request's trace context to the monitor and sends on what it made of it.
func (c *call) trace(h *grpcproxy.Headers, m Monitor) {
	parent, state := h.Get("traceparent"), h.Get("tracestate")
	c.Traceparent, c.Tracestate = parent, state
	m.Begin(&c.Record)
	replace(h, "traceparent", parent, c.Traceparent)
	replace(h, "tracestate", state, c.Tracestate)
}

// replace sends on a header as it is now; nothing, if it is empty.
func replace(h *grpcproxy.Headers, name, came, now string) {
	switch {
	case now == came:
	case now == "":
		h.Del(name)
	default:
		h.Set(name, now)
	}
}

// finish tells the monitor how the request ended.
func (c *call) finish(o *grpcproxy.Outcome, m Monitor) {
	c.Attempts, c.Flag, c.Code = o.Attempts, o.Flag, o.Status
	if o.Status < 0 { // it ended without a status: cancelled, or broken off
		c.Code = 1
		if !o.ByClient {
			c.Code = 14
		}
	}
	c.Sent, c.Received, c.Duration = o.Sent, o.Received, o.Duration
	m.End(&c.Record)
}

// serviceOf reads the service that a request names: by its metadata, or by an authority that is not an address.
func serviceOf(h *grpcproxy.Headers, caller components.Caller) (mesh.Service, bool) {
	if name := h.Get(HeaderService); name != "" {
		return ParseService(name, caller.Namespace)
	}
	host := h.Authority()
	if strings.Contains(host, ":") || host == "localhost" || net.ParseIP(host) != nil {
		return mesh.Service{}, false
	}
	name, namespace, found := strings.Cut(host, ".")
	if !found {
		namespace = caller.Namespace
	}
	return checked(namespace, name)
}

// ParseService reads NAME or NAMESPACE/NAME.
func ParseService(text, namespace string) (mesh.Service, bool) {
	if ns, name, found := strings.Cut(text, "/"); found {
		namespace, text = ns, name
	}
	return checked(namespace, text)
}

const (
	maxName      = 255
	maxNamespace = 63 // a DNS label
)

func checked(namespace, name string) (mesh.Service, bool) {
	ok := name != "" && namespace != "" && len(name) <= maxName && len(namespace) <= maxNamespace &&
		!strings.Contains(name, "/") && printable(name) && printable(namespace)
	if !ok {
		return mesh.Service{}, false
	}
	return mesh.Service{Namespace: namespace, Name: name}, true
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' })
}
