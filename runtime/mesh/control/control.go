// Package control lets applications publish and subscribe by HTTP as they do at other sidecars, without a change: SOFARPC's registry "mesh"
// (/configs/application and /services/...), and MOSN's interface for Dubbo (/pub, /unpub, /sub, /unsub).
//
// Neither says where the application listens: that is configured. What they subscribe to is called at the outbound address; SOFARPC always
// calls port 12220 of the host that it has published at, whatever it is answered.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
)

// Backend does what is asked for. The namespace of services is not set: it is the application's.
type Backend interface {
	// Publish announces a service of the application, which listens where the configuration says.
	Publish(ctx context.Context, s mesh.Service) error
	// Unpublish takes it back; that it is not there is no error.
	Unpublish(ctx context.Context, s mesh.Service) error
	// Subscribe has the instances of a service known before the first call.
	Subscribe(s mesh.Service) error
}

// Options are what a Server needs.
type Options struct {
	Backend  Backend
	Outbound string // where the application's calls leave by
	Access   *access.Policy
	Logger   *slog.Logger
}

const (
	maxBody  = 64 << 10
	patience = 5 * time.Second // for a request to be sent
	handling = 10 * time.Second
)

// Server is the listener's. Safe for concurrent use.
type Server struct {
	opts Options
	http *http.Server
}

type peerKey struct{}

// New makes a server; it owns no listener yet.
func New(o Options) *Server {
	s := &Server{opts: o}
	mux := http.NewServeMux()
	for path, handle := range map[string]func(context.Context, []byte) (any, error){
		"/configs/application":  s.application,
		"/services/publish":     s.publish,
		"/services/unpublish":   s.unpublish,
		"/services/subscribe":   s.subscribe,
		"/services/unsubscribe": s.unsubscribe,
	} {
		mux.Handle("POST "+path, s.serve(handle, func(err error) any { return sofaAnswer{Error: err.Error()} }))
	}
	for path, act := range map[string]func(context.Context, mesh.Service) error{
		"pub": o.Backend.Publish, "unpub": o.Backend.Unpublish,
		"sub":   func(_ context.Context, of mesh.Service) error { return o.Backend.Subscribe(of) },
		"unsub": func(context.Context, mesh.Service) error { return nil },
	} {
		mux.Handle("POST /"+path, s.serve(s.mosn(path, act), func(err error) any { return mosnAnswer{1, err.Error()} }))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "This port is for SOFARPC's registry \"mesh\" and MOSN's interface for Dubbo (docs/mesh/sofarpc.md): POST /services/publish, for example.", http.StatusNotFound)
	})
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: patience, ReadTimeout: 2 * patience, WriteTimeout: 2 * handling, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, o.Access.Identify(nc))
		}}
	return s
}

// Serve accepts connections until ln is closed or Shutdown is called.
func (s *Server) Serve(ln net.Listener) error { return s.http.Serve(ln) }

// Shutdown lets requests end that are under way, until ctx does.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// serve answers HTTP 200 to what was understood, whatever came of it: that is in the answer, where both kinds of clients look for it.
func (s *Server) serve(handle func(context.Context, []byte) (any, error), failed func(error) any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(code int, v any) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(v) // the application may have gone
		}
		err := access.NotABrowser(r)
		if err == nil {
			err = s.opts.Access.Admit(r.Context().Value(peerKey{}).(access.Peer), r.Header.Get)
		}
		if err != nil {
			answer(http.StatusForbidden, failed(err))
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			answer(http.StatusBadRequest, failed(fmt.Errorf("the request cannot be read: %w", err)))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), handling)
		defer cancel()
		v, err := handle(ctx, body)
		var syntax *badBody
		switch {
		case errors.As(err, &syntax):
			answer(http.StatusBadRequest, failed(err))
		case err != nil:
			s.opts.Logger.Warn("application was refused", "path", r.URL.Path, "err", err)
			answer(http.StatusOK, failed(err))
		default:
			answer(http.StatusOK, v)
		}
	})
}

// badBody is a request that is not what its path takes.
type badBody struct{ error }

func decode[T any](body []byte) (in T, err error) {
	if err := json.Unmarshal(body, &in); err != nil {
		return in, &badBody{fmt.Errorf("%w: the body is not the JSON that is expected: %w", components.ErrInvalid, err)}
	}
	return in, nil
}

// sofaAnswer is what SOFARPC reads.
type sofaAnswer struct {
	Success bool     `json:"success"`
	Error   string   `json:"errorMessage,omitempty"`
	Service string   `json:"serviceName,omitempty"`
	Data    []string `json:"datas,omitempty"`
}

var done = sofaAnswer{Success: true}

// application is what SOFARPC asks first. An application of another name than the sidecar's is served all the same: it is beside it.
func (s *Server) application(_ context.Context, body []byte) (any, error) {
	in, err := decode[struct {
		Name string `json:"appName"`
	}](body)
	if err == nil {
		s.opts.Logger.Info("application has come", "name", in.Name)
	}
	return done, err
}

// sofaService is of what all of SOFARPC's requests about services have.
type sofaService struct {
	Name     string `json:"serviceName"` // INTERFACE:VERSION or INTERFACE:VERSION:UNIQUEID
	Protocol string `json:"protocolType"`
}

func (in sofaService) read() (mesh.Service, error) {
	protocol := strings.ToLower(in.Protocol)
	if protocol == "" {
		protocol = "bolt"
	}
	if protocol != "bolt" && protocol != "dubbo" {
		return mesh.Service{}, fmt.Errorf("%w: protocolType %.50q is neither bolt nor dubbo", components.ErrInvalid, in.Protocol)
	}
	of := naming.Canonical(mesh.Service{Name: in.Name, Protocol: protocol})
	return of, checkName(of.Name)
}

func checkName(name string) error {
	if name == "" || len(name) > 253 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return fmt.Errorf("%w: %.100q is not the name of a service: visible ASCII letters without /, at most 253", components.ErrInvalid, name)
	}
	return nil
}

func (s *Server) publish(ctx context.Context, body []byte) (any, error) {
	return s.sofa(body, func(of mesh.Service) error { return s.opts.Backend.Publish(ctx, of) })
}

func (s *Server) unpublish(ctx context.Context, body []byte) (any, error) {
	return s.sofa(body, func(of mesh.Service) error { return s.opts.Backend.Unpublish(ctx, of) })
}

// unsubscribe does nothing: a service that is called no more is forgotten.
func (s *Server) unsubscribe(_ context.Context, body []byte) (any, error) {
	return s.sofa(body, func(mesh.Service) error { return nil })
}

func (s *Server) sofa(body []byte, act func(mesh.Service) error) (any, error) {
	in, err := decode[sofaService](body)
	if err != nil {
		return nil, err
	}
	of, err := in.read()
	if err == nil {
		err = act(of)
	}
	return done, err
}

// subscribe answers one provider: the outbound address. SOFARPC takes but the query of it, which says how to speak: hessian2, and as a
// version that knows all headers of tracing.
func (s *Server) subscribe(_ context.Context, body []byte) (any, error) {
	in, err := decode[sofaService](body)
	if err != nil {
		return nil, err
	}
	of, err := in.read()
	if err == nil {
		err = s.opts.Backend.Subscribe(of)
	}
	return sofaAnswer{Success: true, Service: in.Name, Data: []string{s.opts.Outbound + "?p=1&v=4.0&rpcVer=51302"}}, err
}

// mosnAnswer is what MOSN answers.
type mosnAnswer struct {
	Code    int    `json:"err_no"` // 0: done
	Message string `json:"err_msg"`
}

// mosn is one of MOSN's calls. The registry that they name is not looked at: the sidecar has its own.
func (s *Server) mosn(name string, act func(context.Context, mesh.Service) error) func(context.Context, []byte) (any, error) {
	return func(ctx context.Context, body []byte) (any, error) {
		in, err := decode[struct {
			Service struct {
				Interface string `json:"interface"`
				Group     string `json:"group"`
				Version   string `json:"version"`
			} `json:"service"`
		}](body)
		if err != nil {
			return nil, err
		}
		if err = checkName(in.Service.Interface); err == nil {
			err = act(ctx, naming.Canonical(mesh.Service{Name: in.Service.Interface, Group: in.Service.Group, Version: in.Service.Version, Protocol: "dubbo"}))
		}
		return mosnAnswer{0, name + " success"}, err
	}
}
