package fastgrpc

import (
	"context"
	"encoding/base64"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// value makes what grpc-go's helpers look for in a context only when they look. Their keys are private: probes learn them.
func value(k *grpcproxy.Call, key any) any {
	switch key {
	case mdKey:
		return incoming(k)
	case peerKey:
		h := k.Headers()
		return newPeer(h.Conn, h.TLS())
	case streamKey:
		return transport{k}
	}
	return nil
}

// incoming is the request's metadata, as grpc-go gives it.
func incoming(k *grpcproxy.Call) metadata.MD {
	md := metadata.MD{}
	for _, f := range k.Fields() {
		switch {
		case f.Name[0] == ':' && f.Name != ":authority" || reserved[f.Name]:
		case strings.HasSuffix(f.Name, "-bin"):
			for v := range strings.SplitSeq(f.Value, ",") {
				if b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "=")); err == nil {
					md[f.Name] = append(md[f.Name], string(b))
				}
			}
		default:
			md[f.Name] = append(md[f.Name], f.Value)
		}
	}
	return md
}

var reserved = map[string]bool{"te": true, "grpc-timeout": true, "grpc-encoding": true, "grpc-accept-encoding": true,
	"grpc-status": true, "grpc-message": true, callerHeader: true}

type probe struct {
	context.Context
	key any
}

func (p *probe) Value(key any) any { p.key = key; return nil }

func learn(f func(context.Context)) any {
	p := &probe{Context: context.Background()}
	f(p)
	return p.key
}

var (
	mdKey     = learn(func(c context.Context) { metadata.FromIncomingContext(c) })
	peerKey   = learn(func(c context.Context) { peer.FromContext(c) })
	streamKey = learn(func(c context.Context) { grpc.ServerTransportStreamFromContext(c) })
)

// transport is what grpc.SetHeader and the like write to.
type transport struct{ k *grpcproxy.Call }

func (t transport) Method() string                  { return t.k.Path() }
func (t transport) SetHeader(md metadata.MD) error  { each(md, t.k.SetHeader); return nil }
func (t transport) SendHeader(md metadata.MD) error { return t.SetHeader(md) } // goes out with the answer
func (t transport) SetTrailer(md metadata.MD) error { each(md, t.k.SetTrailer); return nil }

func each(md metadata.MD, set func(n, v string)) {
	for n, vs := range md {
		n = strings.ToLower(n)
		if strings.HasPrefix(n, "grpc-") || strings.HasPrefix(n, ":") || n == "content-type" {
			continue
		}
		for _, v := range vs {
			if strings.HasSuffix(n, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			set(n, v)
		}
	}
}
