package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

// directs are the services that can be called without a sidecar, by name; nil: there is none.
type directs map[string]*direct

type direct struct{ cc *grpc.ClientConn }

func newDirects(o *options) (directs, error) {
	if len(o.direct) == 0 {
		return nil, nil
	}
	all := directs{}
	for _, service := range slices.Sorted(maps.Keys(o.direct)) {
		cc, err := connectDirect(service, o.direct[service], o.directDial)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("direct address of service %q: %w", service, err), all.close())
		}
		all[service] = &direct{cc}
	}
	return all, nil
}

const scheme = "outrigger-direct"

// connectDirect makes the connection to a service, which is not made before the first call.
func connectDirect(service, target string, opts []grpc.DialOption) (*grpc.ClientConn, error) {
	if service == "" || target == "" {
		return nil, errors.New("write SERVICE=TARGET")
	}
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("outrigger-go"),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`)}, opts...)
	if strings.Contains(target, "://") {
		return grpc.NewClient(target, opts...)
	}
	var state resolver.State
	for address := range strings.SplitSeq(target, ",") {
		t, err := parseTarget(address)
		if err != nil || t.network != "tcp" {
			return nil, fmt.Errorf("%q is not HOST:PORT", address)
		}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: t.address}}})
	}
	r := manual.NewBuilderWithScheme(scheme)
	r.InitialState(state)
	return grpc.NewClient(scheme+":///"+service, append(opts, grpc.WithResolvers(r))...)
}

func (d directs) close() error {
	var errs []error
	for _, one := range d {
		errs = append(errs, one.cc.Close())
	}
	return errors.Join(errs...)
}

// dialEither makes a client that can do without a sidecar, and looks for one as long as there is none.
func dialEither(ctx context.Context, o *options, d directs) (*Client, error) {
	c, _ := find(ctx, o)
	if c == nil {
		var err error
		if c, err = newClient(nil, o); err != nil {
			return nil, errors.Join(err, d.close())
		}
		c.look = func(ctx context.Context) (*Candidate, error) {
			found, tried := find(ctx, o)
			if found == nil {
				return nil, &noSidecar{tried: tried}
			}
			return found.at.Load(), found.Close()
		}
	}
	c.direct = d
	c.tasks.Go(c.stay)
	return c, nil
}

// stay has the sidecar connected whenever that can be, though no call asks for it.
func (c *Client) stay() {
	for {
		state := c.cc.GetState()
		switch state {
		case connectivity.Shutdown:
			return
		case connectivity.Idle:
			c.cc.Connect()
		}
		c.cc.WaitForStateChange(context.Background(), state)
	}
}

// either makes a call through the sidecar, or directly if there is none, or it has sent the call to nobody.
func (d *direct) either(c *Client, through func() error, directly func(*grpc.ClientConn) error) error {
	if c.cc.GetState() == connectivity.Ready {
		if err := through(); err == nil || c.closed() || !nowhere(err) {
			return err
		}
	}
	return directly(d.cc)
}

// nowhere tells whether a call was sent to no application: no sidecar was there, or the own one knows no instance.
func nowhere(err error) bool {
	switch Reason(err) {
	case ReasonSidecarUnavailable:
		return Origin(err) == "" // else the application has passed on what it was told by its own client
	case "NO_INSTANCE", "REGISTRY_AWAY":
		return Origin(err) == OriginSidecar
	}
	return false
}

// ofKind gives an error of a direct call its kind; it has no origin, since no sidecar has seen it.
func ofKind(err error, _ metadata.MD, _ bool) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	return newError(s)
}
