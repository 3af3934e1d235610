// Package admin is the door for operators: probes, metrics and what the sidecar says of itself. Over TCP it answers reads
// alone, to loopback and not to web pages; what changes something is taken on the unix socket only, from whom Admit lets in.
// A further address serves probes and metrics and nothing else.
package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Options are what the server tells of and acts on. All functions are called concurrently, and all but Admit are required.
type Options struct {
	// Ready and ReadyOutbound say whether calls can come in, and whether the application can call; why is what is missing, also
	// when it can do without.
	Ready, ReadyOutbound func() (ok bool, why string)
	Info                 func() Info
	// Explain, if set, tells of a call that might be made where it would go.
	Explain func(ctx context.Context, query url.Values) (any, error)
	Metrics http.Handler
	Pprof   bool // serve profiles under /debug/pprof/

	Level    func() string
	SetLevel func(level string) error
	Reload   func(ctx context.Context) error // ErrNotNow: whatever the configuration is
	Drain    func()                          // begins, does not wait
	Bundle   func(io.Writer) error           // writes what helps to find a fault, as a tar.gz

	// Admit says whether the peer of a connection to the unix socket is let in. Without it nobody is.
	Admit  func(net.Conn) error
	Logger *slog.Logger
}

// ErrNotNow is what a sidecar answers that is starting or ending.
var ErrNotNow = errors.New("it is not the time to reload")

// Server serves the listeners it is given until Close.
type Server struct {
	o       Options
	mu      sync.Mutex
	servers []*http.Server
	wg      sync.WaitGroup
	failed  chan error
}

// New makes a server that has no listener yet.
func New(o Options) *Server { return &Server{o: o, failed: make(chan error, 1)} }

// ServeTCP serves reads on a listener on loopback; on another it serves what ServeProbes does.
func (s *Server) ServeTCP(l net.Listener) {
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		s.ServeProbes(l)
		return
	}
	s.serve(l, &http.Server{Handler: s.reads()})
}

// ServeProbes serves probes and metrics, on whichever address.
func (s *Server) ServeProbes(l net.Listener) { s.serve(l, &http.Server{Handler: s.probes()}) }

// ServeUnix serves reads and changes on a unix socket.
func (s *Server) ServeUnix(l net.Listener) {
	s.serve(l, &http.Server{Handler: s.changes(), ConnContext: s.admit})
}

// Failed tells of a listener that broke down.
func (s *Server) Failed() <-chan error { return s.failed }

func (s *Server) serve(l net.Listener, h *http.Server) {
	h.ReadHeaderTimeout, h.IdleTimeout, h.MaxHeaderBytes = 5*time.Second, time.Minute, 16<<10
	h.ErrorLog = slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug)
	s.mu.Lock()
	s.servers = append(s.servers, h)
	s.mu.Unlock()
	s.wg.Go(func() {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			select {
			case s.failed <- err:
			default: // one is enough to know
			}
		}
	})
}

// Close answers what is under way, as long as ctx lasts, closes the listeners and waits for all goroutines but those of
// requests that go on after ctx.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	servers := s.servers
	s.servers = nil
	s.mu.Unlock()
	var errs []error
	for _, h := range servers {
		if err := h.Shutdown(ctx); err != nil {
			errs = append(errs, err, h.Close())
		}
	}
	s.wg.Wait()
	return errors.Join(errs...)
}
