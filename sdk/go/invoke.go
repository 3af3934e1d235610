package client

import (
	"context"
	"maps"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

// InvokeOption adds to what Invoke sends.
type InvokeOption func(*invocationv1.InvokeRequest)

// Verb is the HTTP method for applications that speak HTTP; POST unless set.
func Verb(verb string) InvokeOption {
	return func(r *invocationv1.InvokeRequest) { r.Verb = verb }
}

// ContentType says what the data is.
func ContentType(text string) InvokeOption {
	return func(r *invocationv1.InvokeRequest) { r.ContentType = text }
}

// Metadata adds metadata or headers for the called application.
func Metadata(md map[string]string) InvokeOption {
	return func(r *invocationv1.InvokeRequest) {
		if r.Metadata == nil {
			r.Metadata = make(map[string]string, len(md))
		}
		maps.Copy(r.Metadata, md)
	}
}

// Idempotent says that the call may safely happen twice, so that the sidecar may try another instance.
func Idempotent() InvokeOption {
	return func(r *invocationv1.InvokeRequest) { r.Idempotent = true }
}

// Response is what the called application answered.
type Response struct {
	Data        []byte
	ContentType string
	Metadata    map[string]string // metadata or headers
	HTTPStatus  int               // of applications that speak HTTP, below 400; else 0
}

// Invoke calls one method of another application. The service is NAME, or NAMESPACE/NAME. For an application that speaks gRPC the
// method is "package.Service/Method" and data the marshalled request (Conn is cheaper and has streams); for one that speaks
// HTTP it is the path with its query, and data the body. A status of 400 or more is an error, reason APP_HTTP_STATUS.
func (c *Client) Invoke(ctx context.Context, service, method string, data []byte, opts ...InvokeOption) (Response, error) {
	in := &invocationv1.InvokeRequest{Service: service, Method: method, Data: data}
	for _, set := range opts {
		set(in)
	}
	out, err := invocationv1.NewInvocationClient(c.API()).Invoke(ctx, in)
	if err != nil {
		return Response{}, err
	}
	return Response{out.GetData(), out.GetContentType(), out.GetMetadata(), int(out.GetHttpStatus())}, nil
}
