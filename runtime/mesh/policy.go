package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policies are what an operator says of traffic: one value that is checked and then applied as a whole (see Table). It is plain data, so that
// it may come from a file, a configuration component or a control plane.
type Policies struct {
	Defaults  Rule        `yaml:"defaults" doc:"how calls are treated where no route says otherwise"`
	Routes    []Route     `yaml:"routes" doc:"rules for calls; of those for a service the first that matches decides"`
	Migration []Migration `yaml:"migration" doc:"which share of a service's calls goes through its instances' sidecars, and which to the applications directly"`

	Origin Origin `yaml:"-"`
}

// Origin tells where policies come from, for people.
type Origin struct {
	Source  string `json:"source,omitempty"`  // empty: the sidecar's configuration
	Version string `json:"version,omitempty"` // of the text there
	Stale   bool   `json:"stale,omitempty"`   // the source could not be asked since the start: they were in force before
}

// Rule is how calls are treated. In a route, what is zero is as in the defaults.
type Rule struct {
	Timeout time.Duration `yaml:"timeout" doc:"of the whole call; a caller's shorter deadline holds; 0: none"`
	Retry   Retry         `yaml:"retry" doc:"when a call is tried once more"`
	Balance string        `yaml:"balance" doc:"how an instance is chosen: of two by chance the one with less to do, or each in turn; both by weight" enum:",least_request,round_robin"`
	Breaker Breaker       `yaml:"breaker" doc:"calls under way at once from this sidecar; more are refused"`
	Outlier Outlier       `yaml:"outlier" doc:"when an instance that fails is kept out of play"`
}

// Retry says when a call is tried once more.
type Retry struct {
	On       []string      `yaml:"on" doc:"failures after which: unavailable, connect, closed, refused, reset, timeout, 5xx, or a status of the protocol's"`
	Attempts int           `yaml:"attempts" doc:"that one call may take, the first included; 1: none is repeated"`
	PerTry   time.Duration `yaml:"per_try" doc:"how long each attempt may take; 0: no bound of its own"`
	Budget   Percent       `yaml:"budget" doc:"of a service's calls, those that are repeated at most; 0%: none"`
}

// Breaker bounds what is under way at once.
type Breaker struct {
	Service  int `yaml:"service" json:"service" doc:"to all instances of a service; 0: no limit"`
	Instance int `yaml:"instance" json:"instance" doc:"to one instance; 0: no limit"`
}

// Outlier says when an instance that fails is kept out of play.
type Outlier struct {
	Failures int           `yaml:"failures" doc:"attempts in a row that bring no answer; one that cannot be connected is out at once"`
	Eject    time.Duration `yaml:"eject" doc:"how long, the first time; each failure more doubles it"`
	MaxEject time.Duration `yaml:"max_eject" doc:"how long at most"`
}

// Route is a rule for some of the calls to a service.
type Route struct {
	Name       string  `yaml:"name" doc:"what the access log calls it; unset: SERVICE#N"`
	Service    string  `yaml:"service" doc:"NAME or NAMESPACE/NAME; *: each service"`
	Match      Match   `yaml:"match" doc:"which calls it is for; unset: all"`
	Split      []Share `yaml:"split" doc:"divides the calls among the instances with these labels"`
	Sticky     string  `yaml:"sticky" doc:"a header; calls with the same value of it go to the same share of the split"`
	Idempotent bool    `yaml:"idempotent" doc:"these calls may be repeated though they may have been handled already"`
	Rule       `yaml:",inline"`
}

// Match chooses calls; what is unset matches all.
type Match struct {
	Method  string            `yaml:"method" doc:"the method, with or without what it belongs to; * at the end stands for any"`
	Headers map[string]string `yaml:"headers" doc:"headers by name and value; the value * asks only that it is there"`
	Source  string            `yaml:"source" doc:"the application that calls: APP or NAMESPACE/APP"`
}

// Share is a part of a split.
type Share struct {
	Labels map[string]string `yaml:"labels" doc:"that an instance must have"`
	Weight int               `yaml:"weight" doc:"relative to the other shares"`
}

// Migration moves a share of a service's calls to its instances' sidecars, and back.
type Migration struct {
	Service   string            `yaml:"service" doc:"NAME or NAMESPACE/NAME; *: each service"`
	Mesh      Percent           `yaml:"mesh" doc:"the share of calls that goes through the sidecars of instances"`
	Headers   map[string]string `yaml:"headers" doc:"which calls it is for, by headers; unset: all"`
	Source    string            `yaml:"source" doc:"which calls it is for, by the application that calls; unset: all"`
	Instances []string          `yaml:"instances" doc:"addresses of the sidecars that take part; unset: all"`
	Sticky    string            `yaml:"sticky" doc:"a header; calls with the same value of it go the same way"`
}

// DefaultRule is how calls are treated that no policy speaks of.
func DefaultRule() Rule {
	return Rule{
		Retry:   Retry{On: []string{Unavailable}, Attempts: 2, Budget: 20 * Percent(hundredths)},
		Balance: LeastRequest,
		Outlier: Outlier{Failures: 3, Eject: 500 * time.Millisecond, MaxEject: 30 * time.Second},
	}
}

// The ways of choosing an instance.
const (
	LeastRequest = "least_request"
	RoundRobin   = "round_robin"
)

// Percent is a share, in hundredths of a percent. The zero value says nothing; what is written as 0% is None.
type Percent int

// None is no share at all.
const None Percent = -1

const (
	hundredths = 100
	whole      = 100 * hundredths
)

// UnmarshalText reads 10% or 0.5%. An empty text says nothing.
func (p *Percent) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = 0
		return nil
	}
	digits, ok := strings.CutSuffix(string(text), "%")
	f, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(f >= 0 && f <= 100) || strings.ContainsAny(digits, "+eExX_pP") {
		return fmt.Errorf("%q is not a share: write 0%% to 100%%", text)
	}
	if *p = Percent(f*hundredths + 0.5); *p == 0 {
		*p = None
	}
	return nil
}

// MarshalText writes it so that it can be read again.
func (p Percent) MarshalText() ([]byte, error) {
	if p == 0 {
		return nil, nil
	}
	return []byte(p.String()), nil
}

func (p Percent) String() string {
	return strconv.FormatFloat(float64(max(p, 0))/hundredths, 'f', -1, 64) + "%"
}

// with fills in what a route's rule leaves open.
func (r Rule) with(d Rule) Rule {
	r.Timeout = cmp.Or(r.Timeout, d.Timeout)
	if r.Retry.On == nil {
		r.Retry.On = d.Retry.On
	}
	r.Retry.Attempts = cmp.Or(r.Retry.Attempts, d.Retry.Attempts)
	r.Retry.PerTry = cmp.Or(r.Retry.PerTry, d.Retry.PerTry)
	r.Retry.Budget = cmp.Or(r.Retry.Budget, d.Retry.Budget)
	r.Balance = cmp.Or(r.Balance, d.Balance)
	r.Breaker.Service = cmp.Or(r.Breaker.Service, d.Breaker.Service)
	r.Breaker.Instance = cmp.Or(r.Breaker.Instance, d.Breaker.Instance)
	r.Outlier.Failures = cmp.Or(r.Outlier.Failures, d.Outlier.Failures)
	r.Outlier.Eject = cmp.Or(r.Outlier.Eject, d.Outlier.Eject)
	r.Outlier.MaxEject = cmp.Or(r.Outlier.MaxEject, d.Outlier.MaxEject)
	return r
}

// fits tells whether a call is one of those.
func (m *Match) fits(r *Request) bool {
	return (m.Method == "" || fitsMethod(m.Method, r.Method)) && fitsSource(m.Source, r) && fitsHeaders(m.Headers, r)
}

func fitsMethod(want, method string) bool {
	method = strings.TrimPrefix(method, "/")
	want = strings.TrimPrefix(want, "/")
	last := method[strings.LastIndexByte(method, '/')+1:]
	if prefix, any := strings.CutSuffix(want, "*"); any {
		return strings.HasPrefix(method, prefix) || strings.HasPrefix(last, prefix)
	}
	return want == method || want == last
}

func fitsSource(want string, r *Request) bool {
	if want == "" {
		return true
	}
	namespace, app, both := strings.Cut(want, "/")
	if !both {
		return want == r.Source.App
	}
	return app == r.Source.App && namespace == r.Source.Namespace
}

func fitsHeaders(want map[string]string, r *Request) bool {
	for name, value := range want {
		var is string
		if r.Header != nil {
			is = r.Header(name)
		}
		if is == "" || value != "*" && is != value {
			return false
		}
	}
	return true
}

func (s *Share) fits(in *Instance) bool {
	for name, value := range s.Labels {
		if in.Labels.Get(name) != value {
			return false
		}
	}
	return true
}

// String is LABEL=VALUE,... sorted.
func (s *Share) String() string {
	var all []string
	for name, value := range s.Labels {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}
