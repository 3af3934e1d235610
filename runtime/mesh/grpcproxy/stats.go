package grpcproxy

import (
	"sync/atomic"
)

// Stats are a relay's figures at one moment: gauges first, then counters since it was made.
type Stats struct {
	Downstream, Upstream int   // open connections
	Streams              int   // requests that run, as their clients see it; those answered inline are not seen
	Parked               int   // of these, wait for their route
	Waiting              int   // of these, wait for a place upstream
	Held                 int64 // bytes that wait in streams for their receivers

	Accepted, Dialed, DialFailed int64 // connections
	Resets                       int64 // RST_STREAM frames received
	GoAways                      int64 // GOAWAY frames sent and received
	Faults                       int64 // connections that ended for a fault of the peer's
	Writes                       int64 // system calls that wrote
	Stalls                       int64 // times a peer did not take at once what there was to write, and a goroutine waited for it
}

type counters struct {
	accepted, dialed, dialFailed, resets, goAways, faults, writes, stalls, waiting atomic.Int64
}

// Stats takes time in proportion to the number of connections. It may be called at any time.
func (r *Relay) Stats() Stats {
	s := Stats{
		Parked: int(r.parked.Load()), Waiting: int(r.count.waiting.Load()),
		Accepted: r.count.accepted.Load(), Dialed: r.count.dialed.Load(), DialFailed: r.count.dialFailed.Load(),
		Resets: r.count.resets.Load(), GoAways: r.count.goAways.Load(), Faults: r.count.faults.Load(),
		Writes: r.count.writes.Load(), Stalls: r.count.stalls.Load(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		s.Held += c.held.Load()
		if c.up != nil {
			s.Upstream++
			continue
		}
		s.Downstream++
		c.mu.Lock()
		s.Streams += len(c.streams)
		c.mu.Unlock()
	}
	return s
}
