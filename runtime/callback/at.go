package callback

import (
	"cmp"
	"context"
	"sync"

	"google.golang.org/grpc/metadata"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

// Place is the application as one of its services has it: by a protocol, at a port.
type Place struct {
	app  *App
	at   spot
	used func(port int) bool
}

type spot struct {
	protocol string
	port     int
}

// At is the application at a port, where it speaks protocol; "": the one it was made with. Used tells which ports it serves something at: those at
// which it serves nothing any more are forgotten when another one is called for the first time; calls under way there go on.
func (a *App) At(protocol string, port int, used func(port int) bool) Place {
	return Place{a, spot{cmp.Or(protocol, a.protocol), port}, used}
}

// Invoke is App.Invoke there.
func (p Place) Invoke(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	if p.at == (spot{p.app.protocol, p.app.port}) || p.at.port == 0 {
		return p.app.Invoke(ctx, in, md)
	}
	there, err := p.app.at.enter(p)
	if err != nil {
		return nil, err
	}
	defer p.app.at.leave(there)
	return there.Invoke(ctx, in, md)
}

// places are those that were called.
type places struct {
	mu     sync.Mutex
	all    map[spot]*place
	closed bool // what is called yet is kept for that call
}

type place struct {
	*App
	calls   int // under way
	dropped bool
}

func (p *places) enter(at Place) (there *place, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if there = p.all[at.at]; there == nil {
		app, err := New(at.at.protocol, at.at.port, at.app.limit)
		if err != nil {
			return nil, err
		}
		p.drop(at.used)
		if p.all == nil {
			p.all = map[spot]*place{}
		}
		there = &place{App: app, dropped: p.closed}
		if !p.closed {
			p.all[at.at] = there
		}
	}
	there.calls++
	return there, nil
}

// drop forgets those at which nothing is served.
func (p *places) drop(used func(port int) bool) {
	for at, there := range p.all {
		if used(at.port) {
			continue
		}
		delete(p.all, at)
		if there.dropped = true; there.calls == 0 {
			there.Close()
		}
	}
}

func (p *places) leave(there *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if there.calls--; there.dropped && there.calls == 0 {
		there.Close()
	}
}

func (p *places) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, there := range p.all {
		there.dropped = true
		there.Close()
	}
	clear(p.all)
}
