package callback

import (
	"context"
	"sync"

	"google.golang.org/grpc/metadata"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

// Place is the application at a port that it told with one of its services.
type Place struct {
	app  *App
	port int
	used func(port int) bool
}

// At is the application at a port. Used tells which ports it serves something at: those at which it serves nothing any more are forgotten
// when another one is called for the first time; calls under way there go on.
func (a *App) At(port int, used func(port int) bool) Place { return Place{a, port, used} }

// Invoke is App.Invoke there.
func (p Place) Invoke(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	if p.port == p.app.port || p.port == 0 {
		return p.app.Invoke(ctx, in, md)
	}
	there, err := p.app.at.enter(p)
	if err != nil {
		return nil, err
	}
	defer p.app.at.leave(there)
	return there.Invoke(ctx, in, md)
}

// places are the ports that were called.
type places struct {
	mu     sync.Mutex
	all    map[int]*place
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
	if there = p.all[at.port]; there == nil {
		app, err := New(at.app.protocol, at.port, at.app.limit)
		if err != nil {
			return nil, err
		}
		p.drop(at.used)
		if p.all == nil {
			p.all = map[int]*place{}
		}
		there = &place{App: app, dropped: p.closed}
		if !p.closed {
			p.all[at.port] = there
		}
	}
	there.calls++
	return there, nil
}

// drop forgets those at which nothing is served.
func (p *places) drop(used func(port int) bool) {
	for port, there := range p.all {
		if used(port) {
			continue
		}
		delete(p.all, port)
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
