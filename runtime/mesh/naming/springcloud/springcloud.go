// Package springcloud is how Spring Cloud's applications find each other by name in ZooKeeper and Nacos.
//
//   - ZooKeeper: a node below /services/NAME, its name an id, its content an instance in JSON, as Curator's discovery writes it.
//   - Nacos: public namespace, service NAME; an instance needs no metadata.
//
// Dubbo keeps its applications below /services, too: those are left out.
package springcloud

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
)

const (
	class      = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance"
	keyStatus  = "instance_status"
	up         = "UP"
	keyWeight  = "weight"
	keySecure  = "secure" // Nacos: true where the instance speaks TLS, which we do not to applications
	dubboClass = "org.apache.dubbo."

	// In Nacos Dubbo (3.x) keeps its applications where Spring Cloud does, often by the same names, and says which of its ports they have;
	// what Spring Cloud has written may speak of Dubbo's ports, too, but says whose it is.
	keyDubbo  = "dubbo.endpoints"
	keySource = "preserved.register.source"
	source    = "SPRING_CLOUD"
)

// Form implements naming.Form. A service has neither group nor version there.
type Form struct{}

var _ naming.Form = Form{}

// Place implements naming.Form.
func (Form) Place(driver string, s mesh.Service) (at registry.Service, ok bool) {
	if s.Group != "" || s.Version != "" {
		return at, false
	}
	switch driver {
	case "zookeeper":
		return registry.Service{Namespace: "services", Name: s.Name, Folder: "/services/" + s.Name}, true
	case "nacos":
		return registry.Service{Namespace: "public", Name: s.Name, Cluster: "DEFAULT"}, true
	}
	return at, false
}

// instance is what Curator keeps of one.
type instance struct {
	Name    string   `json:"name"`
	ID      string   `json:"id"`
	Address string   `json:"address"`
	Port    int      `json:"port"`
	SSLPort *int     `json:"sslPort"` // the same as Port, where that speaks TLS
	Payload *payload `json:"payload"`
	Since   int64    `json:"registrationTimeUTC"`
	Type    string   `json:"serviceType"`
	Spec    *spec    `json:"uriSpec"`
}

type payload struct {
	Class    string            `json:"@class"`
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Metadata map[string]string `json:"metadata"`
}

// spec is how an instance's URI is put together.
type spec struct {
	Parts []part `json:"parts"`
}

type part struct {
	Value    string `json:"value"`
	Variable bool   `json:"variable"`
}

var uriSpec = &spec{[]part{{"scheme", true}, {"://", false}, {"address", true}, {":", false}, {"port", true}}}

// Record implements naming.Form.
func (Form) Record(at registry.Service, p naming.Provider) registry.Record {
	md := naming.MarkForeign(p)
	r := registry.Record{Service: at, Address: p.Instance.Address, Weight: p.Instance.Weight}
	if at.Folder == "" {
		r.Metadata = md
		return r
	}
	host, port, _ := net.SplitHostPort(p.Instance.Address)
	md[keyStatus], md[keyWeight] = up, strconv.Itoa(p.Instance.Weight)
	in := instance{Name: p.Service.Name, ID: id(p), Address: host, Type: "DYNAMIC", Spec: uriSpec,
		Payload: &payload{Class: class, ID: p.Service.Name, Name: p.Service.Name, Metadata: md}}
	in.Port, _ = strconv.Atoi(port)
	text, _ := json.Marshal(in) // of such types it never fails
	r.Node, r.Data = in.ID, string(text)
	return r
}

// id is the same for a sidecar that is started anew.
func id(p naming.Provider) string {
	h := sha256.Sum256([]byte(p.Service.Namespace + "/" + p.Service.Name + "@" + p.Instance.Address))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// Entries implements naming.Form.
func (Form) Entries(s mesh.Service, records []registry.Record) []naming.Entry {
	var out []naming.Entry
	for _, r := range records {
		address, weight, md := r.Address, r.Weight, r.Metadata
		if r.Folder != "" {
			var ok bool
			if address, weight, md, ok = parse(r.Data); !ok {
				continue
			}
		}
		if strings.EqualFold(md[keySecure], "true") || md[keyDubbo] != "" && md[keySource] != source {
			continue
		}
		if e, ok := naming.ReadForeign(s, address, weight, md); ok {
			out = append(out, e)
		}
	}
	return out
}

// parse reads an instance that takes calls over plain HTTP. One that is said to be out of service weighs nothing: that is no drop, which
// might not be believed.
func parse(text string) (address string, weight int, md map[string]string, ok bool) {
	var in instance
	if json.Unmarshal([]byte(text), &in) != nil || in.Address == "" || in.Port < 1 || in.Port > 65535 || in.SSLPort != nil && *in.SSLPort == in.Port {
		return "", 0, nil, false
	}
	if in.Payload != nil {
		if strings.HasPrefix(in.Payload.Class, dubboClass) {
			return "", 0, nil, false
		}
		md = in.Payload.Metadata
	}
	weight = naming.Weight(md[keyWeight])
	if status := strings.TrimSpace(md[keyStatus]); status != "" && !strings.EqualFold(status, up) {
		weight = 0
	}
	return naming.Join(in.Address, in.Port), weight, md, true
}
