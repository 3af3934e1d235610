package admin

// Info is the answer of /info.
type Info struct {
	Version    string         `json:"version"`
	App        string         `json:"app"`
	Ports      map[string]int `json:"ports"`               // of the listeners, by their names
	Advertise  string         `json:"advertise"`           // the address that is published for the application; empty: none
	TLS        string         `json:"tls,omitempty"`       // how others come in: strict, permissive, off, or empty: on loopback without
	Identity   string         `json:"identity,omitempty"`  // the SPIFFE id of the sidecar's certificate; empty: it has none
	TLSError   string         `json:"tls_error,omitempty"` // what is wrong with that certificate, or why there is none
	Config     Config         `json:"config"`
	Policies   Policies       `json:"policies,omitzero"`
	Components []Component    `json:"components"`
	Offers     []Offer        `json:"offers"`
	Services   []Service      `json:"services"`
}

// Config tells which configuration is in force.
type Config struct {
	Generation int    `json:"generation"` // counts the configurations that came into force, from 1 at the start
	LastError  string `json:"last_error"` // of the last reload, if it failed
}

// Policies tells where the mesh's policies come from that are in force.
type Policies struct {
	Source  string `json:"source,omitempty"`  // empty: the configuration
	Version string `json:"version,omitempty"` // of the text there
	Stale   bool   `json:"stale,omitempty"`   // the component has not answered since the start: they were in force before
	Refused string `json:"refused,omitempty"` // what is wrong with the newest text there, which is not in force
	Error   string `json:"error,omitempty"`   // why the component cannot be asked now
}

// Component is one configured component.
type Component struct {
	Name       string `json:"name"`
	Capability string `json:"capability"`
	Driver     string `json:"driver"`
	State      string `json:"state"` // starting, ready or failing
	Error      string `json:"error,omitempty"`
}

// Offer is a service of the application's own that others are to call.
type Offer struct {
	Name      string `json:"name"`
	Port      int    `json:"port"` // of the application
	Announced bool   `json:"announced"`
	Error     string `json:"error,omitempty"` // why it is not announced
}

// Service is one that the mesh knows, with the number of its instances.
type Service struct {
	Name      string `json:"name"`
	Instances int    `json:"instances"`
	Held      int    `json:"held,omitempty"`  // more that the registry has dropped, too many at once to be believed
	Stale     bool   `json:"stale,omitempty"` // the registry has not answered: this is from the disk
}
