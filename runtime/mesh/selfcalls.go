package mesh

import (
	"fmt"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
)

// SelfCalls bounds the calls of an application to itself that are under way at once. A service that calls itself for ever
// nests them, so that the bound ends the circle though its application passes nothing on that tells how deep it is. It
// tells such a circle from no other way to have as many. Safe for concurrent use.
type SelfCalls struct {
	Limit  int                    // calls under way; 0: no limit
	Own    func(name string) bool // whether the application serves a service of its namespace
	App    components.Caller      // the application
	active atomic.Int64
}

// Enter takes note of a call that the application makes. One to itself is counted until Leave; one too many is refused with
// ErrPrecondition, since to try again makes it no better.
func (c *SelfCalls) Enter(to Service) (counted bool, err error) {
	if c.Limit <= 0 || to.Namespace != c.App.Namespace || !c.Own(to.Name) {
		return false, nil
	}
	if n := c.active.Add(1); n > int64(c.Limit) {
		c.active.Add(-1)
		return false, components.WithReason(fmt.Errorf("%w: %d calls of %s to itself are under way already: it calls itself in a circle; "+
			"if they are meant, raise mesh.outbound.self_calls (0: no limit)", components.ErrPrecondition, c.Limit, c.App),
			ReasonTooManyHops, "limit", "mesh.outbound.self_calls")
	}
	return true, nil
}

// Leave ends a call that Enter has counted.
func (c *SelfCalls) Leave() { c.active.Add(-1) }
