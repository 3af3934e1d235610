package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/outrigger-mesh/outrigger/runtime/access"
)

// probes is what any address may serve.
func (s *Server) probes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.Handle("GET /readyz", probe(s.o.Ready))
	mux.Handle("GET /readyz/outbound", probe(s.o.ReadyOutbound))
	mux.Handle("GET /metrics", s.o.Metrics)
	return mux
}

// all are the reads.
func (s *Server) all() *http.ServeMux {
	mux := s.probes()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		say(w, http.StatusOK, "/healthz\n/readyz\n/readyz/outbound\n/metrics\n/info\n/explain?service=NAME\n/log/level")
	})
	mux.HandleFunc("GET /info", s.info)
	if s.o.Explain != nil {
		mux.HandleFunc("GET /explain", s.explain)
	}
	mux.HandleFunc("GET /log/level", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, s.o.Level()) })
	if s.o.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.Handle("GET /debug/pprof/cmdline", http.NotFoundHandler()) // arguments may hold secrets
	}
	return mux
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	answer, err := s.o.Explain(r.Context(), r.URL.Query())
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // who went away hears nothing
}

// reads is what loopback gets.
func (s *Server) reads() http.Handler {
	mux := s.all()
	elsewhere := func(w http.ResponseWriter, _ *http.Request) {
		say(w, http.StatusForbidden, "changes and the debug bundle are taken on the admin socket only (DATA_DIR/run/NAMESPACE/APP.admin.sock)")
	}
	for _, pattern := range []string{"PUT /log/level", "POST /reload", "POST /drain", "GET /debug/bundle"} {
		mux.HandleFunc(pattern, elsewhere)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := access.NotABrowser(r); err != nil {
			say(w, http.StatusForbidden, err.Error())
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// changes is what the unix socket gets.
func (s *Server) changes() http.Handler {
	mux := s.all()
	mux.HandleFunc("PUT /log/level", s.setLevel)
	mux.HandleFunc("POST /reload", s.reload)
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, _ *http.Request) {
		s.o.Drain()
		say(w, http.StatusAccepted, "draining")
	})
	mux.HandleFunc("GET /debug/bundle", s.bundle)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err, ok := r.Context().Value(admitKey{}).(error); ok {
			say(w, http.StatusForbidden, err.Error())
			return
		}
		mux.ServeHTTP(w, r)
	})
}

type admitKey struct{}

var errNobody = errors.New("nobody is let in here")

// admit keeps with a connection why its peer is not let in.
func (s *Server) admit(ctx context.Context, nc net.Conn) context.Context {
	err := errNobody
	if s.o.Admit != nil {
		err = s.o.Admit(nc)
	}
	if err == nil {
		return ctx
	}
	return context.WithValue(ctx, admitKey{}, err)
}

func probe(ready func() (bool, string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch ok, why := ready(); {
		case !ok:
			say(w, http.StatusServiceUnavailable, "not ready: "+why)
		case why != "":
			say(w, http.StatusOK, "ready, but "+why)
		default:
			say(w, http.StatusOK, "ready")
		}
	})
}

func (s *Server) info(w http.ResponseWriter, _ *http.Request) {
	info := s.o.Info()
	if info.Ports == nil { // programs that read this may not know null
		info.Ports = map[string]int{}
	}
	if info.Offers == nil {
		info.Offers = []Offer{}
	}
	if info.Components == nil {
		info.Components = []Component{}
	}
	if info.Services == nil {
		info.Services = []Service{}
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		say(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(text, '\n'))
}

func (s *Server) setLevel(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(io.LimitReader(r.Body, 64))
	if err == nil {
		err = s.o.SetLevel(strings.TrimSpace(string(text)))
	}
	if err != nil {
		say(w, http.StatusBadRequest, err.Error())
		return
	}
	s.o.Logger.Info("log level changed", "level", s.o.Level())
	say(w, http.StatusOK, s.o.Level())
}

// reload answers what is wrong with the new configuration, all of it.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	switch err := s.o.Reload(r.Context()); {
	case errors.Is(err, ErrNotNow):
		say(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		say(w, http.StatusUnprocessableEntity, err.Error())
	default:
		say(w, http.StatusOK, "reloaded")
	}
}

// bundle has what others on the machine need not see, such as the configuration.
func (s *Server) bundle(w http.ResponseWriter, _ *http.Request) {
	var all bytes.Buffer
	if err := s.o.Bundle(&all); err != nil {
		say(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/gzip")
	w.Write(all.Bytes())
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}
