package backends_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// seen is what one sidecar sees of the service of another one.
type seen struct {
	t      *testing.T
	shown  *harness.Sidecar // that offers the service
	looks  *harness.Sidecar
	port   int // of the application that is shown
	mu     sync.Mutex
	known  bool
	listed bool
	gaps   int // how often it was listed no more
}

// newSeen starts two sidecars on a registry, and waits until one sees the other's service.
func newSeen(t *testing.T, config string) *seen {
	t.Helper()
	app := harness.StartEcho(t, "shown")
	s := &seen{t: t, shown: harness.Start(t, harness.Options{App: "shown", AppPort: app.Port, Config: config}),
		looks: harness.Start(t, harness.Options{App: "looks", Config: config}), port: app.Port}
	ctx, stop := context.WithCancel(t.Context())
	registry := s.looks.Client().Registry()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r, err := range registry.Watch(ctx, client.Service{Name: "shown"}) {
			if err != nil {
				return
			}
			s.take(len(r.Instances) > 0)
		}
	}()
	t.Cleanup(func() { stop(); <-done })
	s.await(true)
	return s
}

func (s *seen) take(listed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known && s.listed && !listed {
		s.gaps++
	}
	s.known, s.listed = true, listed
}

// await waits until the service is listed, or is not, and answers how long that took.
func (s *seen) await(listed bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	harness.Eventually(s.t, patience, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.known || s.listed != listed {
			return fmt.Errorf("listed: %v, want %v", s.listed, listed)
		}
		return nil
	})
	return time.Since(began)
}

// stays fails if the service was not listed at some time since the last call.
func (s *seen) stays(what string) {
	s.t.Helper()
	s.await(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gaps > 0 {
		s.t.Errorf("%s: it was not listed %d times", what, s.gaps)
	}
	s.gaps = 0
	fmt.Printf("%s: the record stayed\n", what)
}

// stopped has the sidecar that offers the service stopped until its records are gone, and then go on.
func (s *seen) stopped(what string) {
	s.t.Helper()
	s.shown.Freeze()
	gone := s.await(false)
	s.shown.Signal(syscall.SIGCONT)
	back := s.await(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gaps = 0
	fmt.Printf("%s: the record was gone after %.1f s, and back after %.1f s\n", what, gone.Seconds(), back.Seconds())
}

// suffers has a fault happen to the registry while the service is called all the time. The record stands afterwards, whether it was away
// meanwhile or not.
func (s *seen) suffers(server string, f fault) {
	s.t.Helper()
	l := newLoad(s.t)
	api := s.looks.Client()
	for range 4 {
		l.worker(func(ctx context.Context) error { return call(ctx, api) })
	}
	l.answered(100)
	before := running(s.t, s.shown, s.looks)
	said := l.suffers(f)
	back := s.await(true)
	time.Sleep(time.Second) // it has not only been seen for a moment
	s.await(true)
	l.came(server+" "+f.name, said, 0, before, s.shown, s.looks)
	l.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Printf("%s %s: the record was away %d times, and stood again %.1f s after all were served\n", server, f.name, s.gaps, back.Seconds())
	s.gaps = 0
}

// call calls the service.
func call(ctx context.Context, api *client.Client) error {
	_, err := echopb.NewEchoClient(api.Conn("shown")).Unary(ctx, &echopb.Message{Text: "x"})
	if status.Code(err) == codes.Unavailable {
		return fmt.Errorf("%w: %w", client.ErrUnavailable, err)
	}
	return err
}
