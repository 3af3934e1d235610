package client

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// conn makes calls through the sidecar: of the service, or if that is empty of the sidecar's own API.
type conn struct {
	c       *Client
	service string
	opts    []grpc.CallOption
	direct  *direct // nil: the sidecar is the only way
}

func (k conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if k.direct == nil {
		return k.invoke(ctx, method, args, reply, opts)
	}
	return k.direct.either(k.c, func() error {
		return k.invoke(context.WithValue(ctx, elsewhere{}, true), method, args, reply, opts)
	}, func(cc *grpc.ClientConn) error {
		return ofKind(cc.Invoke(propagate(ctx), method, args, reply, opts...), nil, true)
	})
}

func (k conn) invoke(ctx context.Context, method string, args, reply any, opts []grpc.CallOption) error {
	if err := over(ctx); err != nil {
		return err
	}
	var (
		trailer metadata.MD
		p       peer.Peer
	)
	all := slices.Concat(k.opts, opts, []grpc.CallOption{grpc.Trailer(&trailer), grpc.Peer(&p)})
	if err := k.c.cc.Invoke(k.outgoing(ctx), method, args, reply, all...); err != nil {
		return k.c.failed(err, trailer, p.Addr != nil)
	}
	return nil
}

func (k conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (s grpc.ClientStream, err error) {
	if k.direct == nil {
		return k.stream(ctx, desc, method, opts)
	}
	err = k.direct.either(k.c, func() error {
		s, err = k.stream(context.WithValue(ctx, elsewhere{}, true), desc, method, opts)
		return err
	}, func(cc *grpc.ClientConn) error {
		if s, err = cc.NewStream(propagate(ctx), desc, method, opts...); err != nil {
			return ofKind(err, nil, false)
		}
		s = &stream{s, ofKind}
		return nil
	})
	return s, err
}

func (k conn) stream(ctx context.Context, desc *grpc.StreamDesc, method string, opts []grpc.CallOption) (grpc.ClientStream, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	s, err := k.c.cc.NewStream(k.outgoing(ctx), desc, method, slices.Concat(k.opts, opts)...)
	if err != nil {
		return nil, k.c.failed(err, nil, false)
	}
	return &stream{s, k.c.failed}, nil
}

// over is the error of a call that was over before it began, which says nothing of the sidecar; nil if it may begin.
func over(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return newError(status.FromContextError(ctx.Err()))
}

func (k conn) outgoing(ctx context.Context) context.Context {
	ctx = propagate(ctx)
	if k.service != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, serviceMetadata, k.service)
	}
	return ctx
}

// stream gives errors the form that those of unary calls have.
type stream struct {
	grpc.ClientStream
	failed func(err error, trailer metadata.MD, sent bool) error
}

func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return s.failed(err, s.Trailer(), true)
}

func (s *stream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err == nil || errors.Is(err, io.EOF) { // then RecvMsg has the error
		return err
	}
	return s.failed(err, nil, true)
}

func (s *stream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err != nil {
		return nil, s.failed(err, nil, true)
	}
	return md, nil
}

// failed gives an error of gRPC its kind, reason and origin. sent tells whether the call had a connection.
func (c *Client) failed(err error, trailer metadata.MD, sent bool) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := newError(s)
	e.origin = first(trailer, originTrailer)
	switch code := s.Code(); {
	case c.closed() && (code == codes.Canceled || code == codes.Unavailable):
		e.closed = true
	case code == codes.DeadlineExceeded && !sent && c.cc.GetState() != connectivity.Ready:
		// What the deadline was spent on is what the caller wants to hear.
		return sidecarAway(c.Address(), c.whyAway(context.DeadlineExceeded))
	case code == codes.Unavailable && sent && e.reason == "" && e.origin == "":
		// The sidecar's own errors have a reason, those it passes on an origin: this one is gRPC's.
		e.reason = ReasonSidecarLost
	}
	return e
}
