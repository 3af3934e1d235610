package server

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// door is what a connection of the gRPC socket is tagged with.
type door struct {
	caller components.Caller
	policy *access.Policy
	peer   access.Peer
}

func (d *door) Caller() components.Caller { return d.caller }

func (d *door) Admit(header func(string) string) error { return d.policy.Admit(d.peer, header) }

func (s *Server) identify(nc net.Conn) (tag any, err error) {
	return &door{s.opts.Caller, s.opts.Access, s.opts.Access.Identify(nc)}, nil
}

// Route takes what is the API's own, and what its peer may not call: then taken is true, and there is an upstream or the
// error to answer. Everything else is for the mesh. It follows the rules of grpcproxy.Relay.Route.
func (s *Server) Route(h *grpcproxy.Headers) (up *grpcproxy.Upstream, err error, taken bool) {
	door, ok := h.ConnTag.(api.Door)
	if !ok {
		err = components.ErrUnauthenticated
	} else {
		err = door.Admit(h.Get)
	}
	if err != nil {
		return nil, api.RelayError(err), true
	}
	if !mesh.Own(h.Path()) {
		return nil, nil, false
	}
	up, err = s.fast.Route(h)
	return up, err, true
}

// alone is the route as long as there is no mesh.
func (s *Server) alone(h *grpcproxy.Headers) (*grpcproxy.Upstream, error) {
	if up, err, taken := s.Route(h); taken {
		return up, err
	}
	return nil, api.RelayError(s.noMethod(h.Path()))
}

// unknown answers a method that none of the services has.
func (s *Server) unknown(_ any, ss grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(ss)
	return s.noMethod(method)
}

func (s *Server) noMethod(path string) error {
	services := slices.Sorted(maps.Keys(s.fast.GRPC.GetServiceInfo()))
	err := fmt.Errorf("%w: there is no method %s here; the services are %s", components.ErrUnsupported, path, strings.Join(services, ", "))
	return components.WithReason(err, mesh.ReasonUnknownMethod)
}

// hook puts the server's part into the relay's hooks, whoever has set them meanwhile.
func (s *Server) hook() {
	r, others := s.fast.Relay, s.fast.Relay.Response
	r.Response = func(h *grpcproxy.Headers, trailers bool) {
		switch {
		case h.Tag == nil: // the answer of the grpc-go within: the mesh tags its own
			s.explain(h)
		case others != nil:
			others(h, trailers)
		}
	}
}

// explain says better what grpc-go answers by itself, with a status of its own making and no details.
func (s *Server) explain(h *grpcproxy.Headers) {
	if !h.End || h.Get("grpc-status-details-bin") != "" {
		return
	}
	code, err := strconv.Atoi(h.Get("grpc-status"))
	if err != nil {
		return
	}
	err = api.FromEngine(codes.Code(code), h.Get("grpc-message"), "api", int(s.opts.MaxMessage))
	if err == nil {
		return
	}
	st := api.Status(err)
	if details, err := proto.Marshal(st.Proto()); err == nil {
		h.Set("grpc-status", strconv.Itoa(int(st.Code())))
		h.Set("grpc-message", strings.ReplaceAll(st.Message(), "%", "%25")) // ASCII otherwise: it was a header's
		h.Set("grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(details))
	}
}
