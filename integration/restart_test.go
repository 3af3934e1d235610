package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const (
	drainCalls   = 60000
	drainEvents  = 30000
	drainPace    = 2 * time.Millisecond // between two rounds of 2 calls and 1 event
	drainConfig  = "app: {services: [{name: echo, protocol: grpc, port: %d}]}\n" + drainPlain
	drainPlain   = "registry: {default: {driver: file}}\npubsub: {default: {driver: local, options: {delivery: {dead_letter_topic: dead}}}}\ndrain: {propagation: 500ms, max: 1s}\n"
	drainPatient = 30 * time.Second // of a call
)

// drained is the load of TestDrain and what has become of it.
type drained struct {
	calls, failed, again atomic.Int64
	mu                   sync.Mutex
	seen                 map[string]int // how often each event was handled
	acked                map[string]bool
}

// TestDrain restarts four sidecars in turn, over and over, the one that owns the store among them, while their applications call
// one another, publish and subscribe.
func TestDrain(t *testing.T) {
	data := t.TempDir()
	d := &drained{seen: map[string]int{}, acked: map[string]bool{}}
	var all []*instance
	for _, app := range []string{"callee-1", "callee-2", "caller-1", "caller-2"} {
		i := &instance{}
		config := drainPlain
		if app[:6] == "callee" {
			i.app = harness.StartEcho(t, app)
			config = fmt.Sprintf(drainConfig, i.app.Port)
		}
		i.sidecar = harness.Start(t, harness.Options{App: app, Config: config, DataDir: data})
		all = append(all, i)
	}
	callers := []*client.Client{all[2].sidecar.Client(), all[3].sidecar.Client()}
	for _, c := range callers {
		(&pair{client: c}).published(t, "echo", 2)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var subscribers, load sync.WaitGroup
	for _, i := range all[:2] {
		c := i.sidecar.Client()
		subscribers.Go(func() { d.subscribe(ctx, t, c) })
	}
	over := make(chan struct{})
	for k, c := range callers {
		load.Go(func() { d.load(t, k, c) })
	}
	go func() { load.Wait(); close(over) }()
	restarts := 0
	for running := true; running; restarts++ {
		all[restarts%4].restart(t)
		select {
		case <-over:
			running = false
		case <-time.After(time.Second):
		}
	}
	harness.Eventually(t, time.Minute, func() error {
		if lost := d.lost(); lost != 0 {
			return fmt.Errorf("%d events were acknowledged and have not been handled", lost)
		}
		return nil
	})
	dead := d.deadLettered(t, callers[0])
	cancel()
	subscribers.Wait()
	fmt.Printf("drain: calls %d failed %d | events %d lost %d dead-lettered %d redelivered %d | restarts %d\n", d.calls.Load(), d.failed.Load(),
		len(d.acked), d.lost(), dead, d.again.Load(), restarts)
	if d.calls.Load() < drainCalls || len(d.acked) < drainEvents || d.failed.Load() > 0 || dead != 0 {
		t.Error("that is not what was wanted")
	}
}

// load makes a caller's half of the calls and publications.
func (d *drained) load(t *testing.T, k int, c *client.Client) {
	echo := echopb.NewEchoClient(c.Conn("echo"))
	var under sync.WaitGroup
	tick := time.NewTicker(2 * drainPace)
	defer tick.Stop()
	for n := range drainEvents / 2 {
		<-tick.C
		for range drainCalls / drainEvents {
			under.Go(func() {
				ctx, end := context.WithTimeout(context.Background(), drainPatient)
				defer end()
				_, err := echo.Unary(ctx, &echopb.Message{Text: "x"})
				if d.calls.Add(1); err != nil && d.failed.Add(1) < 10 {
					t.Errorf("call failed: %v", err)
				}
			})
		}
		under.Go(func() { d.publish(t, c, fmt.Sprintf("%d-%d", k, n), fmt.Sprint(n%10)) })
	}
	under.Wait()
}

// publish publishes until it is acknowledged: while the store changes hands it may have to be done again.
func (d *drained) publish(t *testing.T, c *client.Client, id, key string) {
	e := client.Event{ID: id, Data: []byte(id), OrderingKey: key, IdempotencyKey: id}
	ctx, end := context.WithTimeout(context.Background(), drainPatient)
	defer end()
	for {
		_, err := c.PubSub("").Publish(ctx, "drain", e)
		if err == nil {
			d.mu.Lock()
			d.acked[id] = true
			d.mu.Unlock()
			return
		}
		if !errors.Is(err, client.ErrUnavailable) || ctx.Err() != nil {
			t.Errorf("event %s: %v", id, err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (d *drained) subscribe(ctx context.Context, t *testing.T, c *client.Client) {
	o := client.SubscribeOptions{Group: "drain", Earliest: true}
	err := c.PubSub("").Subscribe(ctx, "drain", o, func(_ context.Context, e client.Event) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.seen[string(e.Data)]++; d.seen[string(e.Data)] > 1 {
			d.again.Add(1)
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("subscription: %v", err)
	}
}

func (d *drained) lost() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.acked {
		if d.seen[id] == 0 {
			n++
		}
	}
	return n
}

// deadLettered publishes a last event to the dead-letter topic, and counts what came before it.
func (d *drained) deadLettered(t *testing.T, c *client.Client) (n int) {
	ctx, end := context.WithTimeout(t.Context(), drainPatient)
	defer end()
	if _, err := c.PubSub("").Publish(ctx, "dead", client.Event{Data: []byte("last")}); err != nil {
		t.Error(err)
		return -1
	}
	err := c.PubSub("").Subscribe(ctx, "dead", client.SubscribeOptions{Earliest: true, Concurrency: 1}, func(_ context.Context, e client.Event) error {
		if string(e.Data) == "last" {
			end()
		} else {
			n++
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	return n
}
