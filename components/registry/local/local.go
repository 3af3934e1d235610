// Package local is a registry in the local store: one durable folder that all sidecars of a machine with the same data folder share.
// Which records are alive is told by connections: each sidecar has one to the process that owns the store, as long as it lives, stopped
// or not. Records survive the owner: whoever takes over lists those it finds, and gives their sidecars some time to come.
//
// # Records
//
// In the store's space "registry", under C NUL NAMESPACE NUL GROUP NUL NAME NUL ADDRESS NUL HOLDER, C being the component's name and
// the holder an instance of the driver: the byte 1, for the format, and a map of CBOR, see entry. They are not synced: a loss of power ends
// the sidecars, too.
package local

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

func init() {
	components.Register(registry.Drivers, "local", Options{}, Open)
}

// Options of the driver: there are none.
type Options struct{}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- A record is seen by the other sidecars at once, and gone from their lists at once when it is taken back.
- The records of a sidecar that was killed are gone at once, or 5 s after another process has taken the store over if it was the owner; those of one that is stopped (SIGSTOP) stay.
- When the owner of the store goes, the records of the others stay listed throughout.
- Sidecars of one machine only, which have the same data folder.`
}

const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// driver asks the machine of the store, wherever that is.
type driver struct {
	store.Client
	component string
	holder    string // is never used again
	busy      chan struct{}
	own       map[place]registry.Record // with busy taken

	ended   context.Context
	end     context.CancelFunc
	holding sync.WaitGroup
	closing sync.Once
	err     error // of closing
}

type place struct {
	service registry.Service
	address string
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)

	errClosed = fmt.Errorf("%w: the component is closed", components.ErrUnavailable)
)

// Open joins the store. It must be closed.
func Open(ctx context.Context, env components.Env, _ Options) (registry.Driver, error) {
	link, err := store.Join(ctx, env)
	if err != nil {
		return nil, err
	}
	d := &driver{Client: store.Client{Link: link}, component: env.ID.Name, holder: rand.Text(), busy: make(chan struct{}, 1), own: map[place]registry.Record{}}
	d.ended, d.end = context.WithCancel(context.Background())
	hold, err := d.connect(ctx)
	if err != nil {
		link.Close()
		return nil, err
	}
	d.holding.Go(func() { d.hold(hold) })
	return d, nil
}

// Close takes back the records.
func (d *driver) Close(context.Context) error {
	d.closing.Do(func() {
		d.end()
		d.holding.Wait()
		d.Link.Close()
	})
	return d.err
}

// enter waits for the turn to change what is own.
func (d *driver) enter(ctx context.Context) error {
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.ended.Err() != nil {
		<-d.busy
		return errClosed
	}
	return nil
}

func (d *driver) Register(ctx context.Context, r registry.Record) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer func() { <-d.busy }()
	if _, err := registerCall.Call(ctx, d.Link, registerIn{d.component, d.holder, r}); err != nil {
		return err
	}
	r.Metadata = maps.Clone(r.Metadata)
	d.own[place{r.Service, r.Address}] = r
	return nil
}

func (d *driver) Deregister(ctx context.Context, s registry.Service, address string) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer func() { <-d.busy }()
	delete(d.own, place{s, address}) // first: it must not be put back
	_, err := deregisterCall.Call(ctx, d.Link, deregisterIn{d.component, d.holder, s, address})
	return err
}

type holdStream = store.Stream[holdIn, struct{}]

// connect has the owner know that this holder lives, and what it has. The stream lasts until it is closed.
func (d *driver) connect(ctx context.Context) (holdStream, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-d.busy }()
	hold, err := holdCall.Open(context.WithoutCancel(ctx), d.Link)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, hold.Close)
	defer stop()
	if err := hold.Send(holdIn{Component: d.component, Holder: d.holder, Records: slices.Collect(maps.Values(d.own))}); err == nil {
		_, err = hold.Recv()
		if err == nil {
			return hold, nil
		}
	}
	hold.Close()
	if err == nil {
		err = fmt.Errorf("%w: the store does not hold records", components.ErrUnavailable)
	}
	return nil, err
}

// hold connects again whenever the owner of the store has changed, until Close.
func (d *driver) hold(hold holdStream) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if hold != nil {
			pause = firstPause
			if d.held(hold) {
				return
			}
		}
		select {
		case <-time.After(pause):
		case <-d.ended.Done():
			return
		}
		hold, _ = d.connect(d.ended) // it is tried again
	}
}

// held waits until the stream is lost; true: it was ended, and the records are taken back.
func (d *driver) held(hold holdStream) bool {
	defer hold.Close()
	lost := make(chan error, 1)
	go func() {
		_, err := hold.Recv()
		lost <- err
	}()
	select {
	case <-lost:
		return false
	case <-d.ended.Done():
	}
	d.err = hold.CloseSend()
	select {
	case <-lost: // the owner has taken them back, or has gone
	case <-time.After(closeTime):
		hold.Close()
		<-lost
	}
	return true
}

// closeTime bounds how long Close waits for the owner.
const closeTime = 5 * time.Second
