// Package config is the only reader of YAML. It is strict: what it does not know is a fault, and all faults of a file are
// told at once, each with file, line and column, before anything is opened.
package config

import (
	"crypto/sha256"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// Config is a configuration without a fault, defaults filled in.
type Config struct {
	App          App         `yaml:"app" doc:"the application beside the sidecar"`
	DataDir      string      `yaml:"data_dir" doc:"a folder that outlives the sidecar; empty: the user's state folder"`
	API          API         `yaml:"api" doc:"the door for the application"`
	Admin        Admin       `yaml:"admin" doc:"the door for operators"`
	Mesh         Mesh        `yaml:"mesh" doc:"how calls leave and come in"`
	Telemetry    Telemetry   `yaml:"telemetry" doc:"what is told about the sidecar's work"`
	Drain        Drain       `yaml:"drain" doc:"the steps of an orderly end"`
	Reload       Reload      `yaml:"reload" doc:"how a changed file is taken over"`
	Components   []Component `yaml:"-"` // sorted by capability, then name
	SourcePath   string      `yaml:"-"` // empty: the embedded defaults
	SecretsFirst []string    `yaml:"-"` // secret components in the order they must be opened in

	source *source           // where each setting is written
	digest [sha256.Size]byte // of the text that was read
}

// App says which application stands beside the sidecar.
type App struct {
	ID        string    `yaml:"id" doc:"the application's name, a DNS label"`
	Namespace string    `yaml:"namespace" doc:"a DNS label"`
	Port      int       `yaml:"port" doc:"where the application listens on this machine; 0: it has no server"`
	Protocol  string    `yaml:"protocol" doc:"what the application speaks on its port" enum:"http,grpc,bolt,dubbo,tcp"`
	Services  []Service `yaml:"services" doc:"what the sidecar publishes for the application, besides the service named like it"`
}

// Service is one that the sidecar publishes for its application.
type Service struct {
	Name     string            `yaml:"name" doc:"what callers ask for; of Bolt and Dubbo the interface, and of Bolt also INTERFACE:VERSION or INTERFACE:VERSION:UNIQUEID"`
	Protocol string            `yaml:"protocol" doc:"what it speaks; unset: app.protocol" enum:"http,grpc,bolt,dubbo,tcp"`
	Port     int               `yaml:"port" doc:"where it listens on this machine; unset: app.port"`
	Group    string            `yaml:"group" doc:"tells services of one name apart; of Bolt it is the uniqueId"`
	Version  string            `yaml:"version" doc:"of the service's interface"`
	Weight   int               `yaml:"weight" doc:"share of calls relative to other instances; unset: 100"`
	Zone     string            `yaml:"zone" doc:"where this instance runs"`
	Labels   map[string]string `yaml:"labels" doc:"what routes can ask for"`
	Itself   bool              `yaml:"registers_itself" doc:"the application registers it with the sidecar's address, as Dubbo 3 and Spring Cloud can: the sidecar writes no record in mesh.naming's form, and others call it while the application's own is there"`
}

// API is the door for the application.
type API struct {
	GRPC            string          `yaml:"grpc" doc:"address of the gRPC API; port 0 picks one"`
	HTTP            string          `yaml:"http" doc:"address of the HTTP/JSON API; port 0 picks one"`
	Socket          string          `yaml:"socket" doc:"unix socket; empty: data_dir/run/NAMESPACE/APP.sock; none: no socket"`
	Access          string          `yaml:"access" doc:"who may call over TCP: the user of the sidecar and root, whoever has the token too, or any process" enum:"same-user,token,any"`
	MaxMessageBytes components.Size `yaml:"max_message_bytes" doc:"largest request or answer of a unary call, the same on each hop; its JSON may be twice as long"`
	MaxInFlight     components.Size `yaml:"max_in_flight_bytes" doc:"bytes of requests that are handled at once; one by HTTP counts with its JSON and with the message in it"`
}

// Admin is the door for operators.
type Admin struct {
	Address string `yaml:"address" doc:"a loopback address; port 0 picks one"`
	Probes  string `yaml:"probes" doc:"another address that serves the probes and metrics, and nothing else; empty: none"`
	Pprof   bool   `yaml:"pprof" doc:"serve profiles of the process"`
}

// Mesh says how calls leave and come in.
type Mesh struct {
	Registry string   `yaml:"registry" doc:"the registry component that services are published in and found by; unset: the one called default"`
	Naming   Naming   `yaml:"naming" doc:"the form that services have in it besides our own, for consumers and providers without a sidecar; in ZooKeeper and Nacos"`
	Inbound  Inbound  `yaml:"inbound" doc:"the one port for calls from other sidecars"`
	Outbound Outbound `yaml:"outbound" doc:"the port for the application's own calls in its own protocol"`
	SOFARPC  SOFARPC  `yaml:"sofarpc" doc:"the addresses that SOFARPC's registry mesh knows; the control one also serves MOSN's /pub, /unpub, /sub and /unsub"`
	MaxHops  int      `yaml:"max_hops" doc:"sidecars that one call may pass before it is taken for a loop"`
	TLS      TLS      `yaml:"tls" doc:"mutual TLS between sidecars"`
	// Hold is Directory.Hold.
	Hold          time.Duration `yaml:"hold" doc:"how long it is not believed when a registry drops all of a service's instances, or most, at once; 0: it is"`
	mesh.Policies `yaml:",inline"`
	PoliciesFrom  PoliciesFrom `yaml:"policies_from" doc:"where else policies are read, and followed: what stands there holds before the three sections above"`
}

// PoliciesFrom is a key of a configuration component, that many sidecars read.
type PoliciesFrom struct {
	Component string `yaml:"component" doc:"a configuration component; empty: nowhere"`
	Key       string `yaml:"key" doc:"the key; its value is YAML with defaults, routes and migration, each of which may be missing"`
}

// Naming says in which form, by protocol, services are written into the registry and read there, besides our own.
type Naming struct {
	Bolt  string `yaml:"bolt" doc:"sofa: as SOFARPC does; native: in no form but our own" enum:"sofa,native"`
	Dubbo string `yaml:"dubbo" doc:"dubbo: as Dubbo does, by interface; native: in no form but our own" enum:"dubbo,native"`
	HTTP  string `yaml:"http" doc:"springcloud: as Spring Cloud does; native: in no form but our own" enum:"springcloud,native"`
}

// SOFARPC are the listeners of its registry "mesh". Both are off unless they are set.
type SOFARPC struct {
	Control  string `yaml:"control" doc:"where applications publish and subscribe, 127.0.0.1:13330 as SOFARPC expects it; empty: nowhere"`
	Outbound string `yaml:"outbound" doc:"where their calls leave by: port 12220 of the same host, which SOFARPC does not let be changed; empty: nowhere"`
}

// TLS is how sidecars prove to each other who they are.
type TLS struct {
	Mode        string `yaml:"mode" doc:"strict: calls come in by mutual TLS alone; permissive: without it, too; off: no TLS, though others can connect" enum:",strict,permissive,off"`
	Certificate string `yaml:"certificate" doc:"file of this sidecar's certificate (PEM), read again when it changes"`
	Key         string `yaml:"key" doc:"file of its private key"`
	CA          string `yaml:"ca" doc:"file of the certificates that the other sidecars' must be signed by"`
}

// On tells whether there is TLS.
func (t TLS) On() bool { return t.Mode == "strict" || t.Mode == "permissive" }

// Inbound is the one port for calls from other sidecars.
type Inbound struct {
	Address     string `yaml:"address" doc:"where calls from other sidecars come in; port 0 picks one"`
	Advertise   string `yaml:"advertise" doc:"HOST or HOST:PORT to announce instead of the address that leads to the registry"`
	Concurrency int    `yaml:"concurrency" doc:"calls that the application handles at once; more are refused"`
}

// Outbound is the port for the application's own calls in its own protocol.
type Outbound struct {
	Address     string        `yaml:"address" doc:"where the application sends calls in its own protocol; port 0 picks one"`
	Timeout     time.Duration `yaml:"timeout" doc:"of Invoke, when the caller sets no deadline; 0: none"`
	SelfCalls   int           `yaml:"self_calls" doc:"calls of the application to itself that are under way at once; more are taken for a loop; 0: no limit"`
	Watch       []string      `yaml:"watch" doc:"services, NAME or NAMESPACE/NAME, of which the application names instances' addresses: the sidecar knows them from the beginning"`
	TCP         []TCP         `yaml:"tcp" doc:"services that are called by TCP: each has a port of its own, since nothing else says which is meant"`
	Passthrough bool          `yaml:"passthrough" doc:"as an HTTP proxy, forward also to addresses that are no service's, CONNECT included"`
}

// TCP is a port that leads to a service.
type TCP struct {
	Service string `yaml:"service" doc:"NAME or NAMESPACE/NAME"`
	Address string `yaml:"address" doc:"where the application connects to; a loopback address"`
}

// Telemetry says what is told about the sidecar's work, and where.
type Telemetry struct {
	Log       Log    `yaml:"log" doc:"the sidecar's own log, on stderr"`
	AccessLog string `yaml:"access_log" doc:"a line for each proxied call: stdout, stderr, a file, or off"`
	Tracing   Trace  `yaml:"tracing" doc:"spans, sent over OTLP"`
}

// Log says what the sidecar's own log has, and how it is written.
type Log struct {
	Level  string `yaml:"level" doc:"what is logged at least" enum:"debug,info,warn,error"`
	Format string `yaml:"format" doc:"how a line is written" enum:"text,json"`
}

// Trace sends spans over OTLP (gRPC) when there is an endpoint.
type Trace struct {
	Endpoint string  `yaml:"endpoint" doc:"HOST:PORT of an OTLP gRPC receiver; empty: no spans are made"`
	Ratio    float64 `yaml:"ratio" doc:"share of new traces that are sampled; a caller's decision is kept"`
	Insecure bool    `yaml:"insecure" doc:"no TLS towards the receiver"`
}

// Drain bounds the steps of an orderly end.
type Drain struct {
	Propagation time.Duration `yaml:"propagation" doc:"how long calls are still accepted after the service was unpublished"`
	Quiet       time.Duration `yaml:"quiet" doc:"the application has finished when it has called nothing for so long, though its connections are open"`
	Max         time.Duration `yaml:"max" doc:"the whole of draining"`
}

// Reload bounds a change of the configuration while the sidecar runs.
type Reload struct {
	Timeout time.Duration `yaml:"timeout" doc:"how long a changed component may take to become ready before the old one stays"`
}

// Component is one that the file (or the embedded defaults) names.
type Component struct {
	components.ID
	Required bool              // the sidecar does not start without it
	Limits   components.Limits // limits: {concurrency, queue}
	Position string            // FILE:LINE:COLUMN of its name

	// Secrets are the secret components that its options refer to.
	Secrets []string
	// Resolve answers the driver's options with each ${secret:component/key} replaced by what secret answers. Without any it
	// never fails, since the options were checked before.
	Resolve func(secret func(component, key string) (string, error)) (options any, err error)

	options *optionsOf
}

// Defaults are the settings of a file that says nothing.
func Defaults() Config {
	return Config{
		App:   App{Namespace: "default", Protocol: "http", Services: []Service{}},
		API:   API{GRPC: "127.0.0.1:7070", HTTP: "127.0.0.1:7071", Access: "same-user", MaxMessageBytes: 4 << 20, MaxInFlight: 256 << 20},
		Admin: Admin{Address: "127.0.0.1:7072"},
		Mesh: Mesh{
			Inbound:  Inbound{Address: "127.0.0.1:7080", Concurrency: 1024},
			Outbound: Outbound{Address: "127.0.0.1:7090", Timeout: 30 * time.Second, SelfCalls: 64, Watch: []string{}, TCP: []TCP{}},
			MaxHops:  16,
			Naming:   Naming{Bolt: "sofa", Dubbo: "dubbo", HTTP: "springcloud"},
			Hold:     30 * time.Second,
			Policies: mesh.Policies{Defaults: mesh.DefaultRule(), Routes: []mesh.Route{}, Migration: []mesh.Migration{}},
		},
		Telemetry: Telemetry{Log: Log{Level: "info", Format: "text"}, AccessLog: "off", Tracing: Trace{Ratio: 0.01}},
		Drain:     Drain{Propagation: 2 * time.Second, Quiet: 2 * time.Second, Max: 25 * time.Second},
		Reload:    Reload{Timeout: 10 * time.Second},
	}
}
