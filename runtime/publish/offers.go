package publish

import (
	"fmt"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// Offer is a service that is to be announced, and how that stands.
type Offer struct {
	Service mesh.Service
	Port    int
	Why     string // it is not announced; empty: it is
}

// Offers are all services that are to be announced, in their order.
func (p *Publisher) Offers() []Offer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Offer
	for _, id := range sorted(p.all()) {
		pub, _ := p.wanted(id)
		o := Offer{Service: pub.Service, Port: pub.Port, Why: notTried}
		if k := p.keepers[id]; p.gone {
			o.Why = "the sidecar is ending"
		} else if k != nil {
			o.Why = *k.why.Load()
		}
		all = append(all, o)
	}
	return all
}

const (
	notTried = "its port has not been tried yet"
	silent   = "the port does not answer"
)

// standing tells why the registry does not have what is wanted, or has not heard that it is gone; empty: it has it.
func (k *keeper) standing() string {
	switch {
	case k.misses > missesAllowed && k.told != nil && k.said != "":
		return fmt.Sprintf("%s, and the registry was not told so: %s", silent, k.said)
	case k.misses > missesAllowed:
		return silent
	case k.said != "":
		return "the registry was not told: " + k.said
	case k.heard:
		return ""
	case k.misses > 0:
		return silent
	}
	return notTried
}
