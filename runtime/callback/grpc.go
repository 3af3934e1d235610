package callback

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
)

func (a *App) invokeGRPC(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	method := strings.TrimPrefix(in.GetMethod(), "/")
	if service, name, ok := strings.Cut(method, "/"); !ok || service == "" || name == "" || strings.ContainsFunc(method, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%w: method %q: the service is of gRPC, so it is written package.Service/Method", components.ErrInvalid, in.GetMethod())
	}
	along, err := outgoing(in.GetMetadata(), md)
	if err != nil {
		return nil, err
	}
	out, header, trailer, err := a.one(metadata.NewOutgoingContext(ctx, along), "/"+method, in.GetData())
	if errors.Is(err, errStream) {
		return nil, components.WithReason(fmt.Errorf("%w: %s %w; to call it as what it is, use its own stub on a connection to the sidecar, "+
			"with the metadata outrigger-service", components.ErrInvalid, method, err), ReasonStreamingMethod)
	}
	if err != nil {
		return nil, a.grpcFailure(ctx, err, header, trailer)
	}
	return &invocationv1.InvokeResponse{Data: out, ContentType: "application/grpc", Metadata: flat(metadata.Join(header, trailer))}, nil
}

// ForGRPC tells whether a call of a service that is served by gRPC and by HTTP is one of gRPC: its method is written as gRPC writes it, and it has
// nothing that only calls of HTTP have.
func ForGRPC(in *invocationv1.InvokeRequest) bool {
	service, method, ok := strings.Cut(strings.TrimPrefix(in.GetMethod(), "/"), "/")
	if !ok || !isName(method) || in.GetVerb() != "" || in.GetContentType() != "" {
		return false
	}
	for part := range strings.SplitSeq(service, ".") {
		if !isName(part) {
			return false
		}
	}
	return true
}

// isName tells whether a proto file may name something so.
func isName(s string) bool {
	return s != "" && (s[0] < '0' || s[0] > '9') && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

var (
	errStream = errors.New("does not answer with one message, and Invoke is for methods that do")
	oneToAny  = &grpc.StreamDesc{ServerStreams: true}
)

// one sends a message and takes one back, with the answer's metadata. A stream is counted here and not by the client, whose error
// for it cannot be told from the application's own word.
func (a *App) one(ctx context.Context, method string, data []byte) (out payload, header, trailer metadata.MD, err error) {
	ctx, cancel := context.WithCancel(ctx) // of a method that goes on
	defer cancel()
	s, err := a.conn.NewStream(ctx, oneToAny, method)
	if err != nil {
		return nil, nil, nil, err
	}
	if err = s.SendMsg(payload(data)); err == nil {
		err = s.CloseSend()
	}
	if err != nil && !errors.Is(err, io.EOF) { // that says to ask RecvMsg
		return nil, nil, nil, err
	}
	first := s.RecvMsg(&out)
	if err = first; err == nil {
		err = s.RecvMsg(new(payload))
	}
	if err != nil {
		header, _ = s.Header() // it is here, or there is none
		trailer = s.Trailer()
	}
	switch {
	case err == nil || errors.Is(first, io.EOF):
		return nil, header, trailer, errStream
	case errors.Is(err, io.EOF):
		return out, header, trailer, nil
	}
	return nil, header, trailer, err
}

// grpcFailure tells the application's own word from what the client made up because there was none: only an answer has headers
// or trailers.
func (a *App) grpcFailure(ctx context.Context, err error, header, trailer metadata.MD) error {
	st := status.Convert(err)
	switch {
	case len(header) > 0 && a.isTooLarge(st):
		return a.tooLarge()
	case st.Code() == codes.Aborted && slices.ContainsFunc(append(header.Get(txReason), trailer.Get(txReason)...), branchFailed):
		if told, err := st.WithDetails(&errdetails.ErrorInfo{Reason: string(transaction.ReasonBranchFailed), Domain: "outrigger"}); err == nil {
			return told.Err()
		}
		return st.Err()
	case len(header)+len(trailer) > 0:
		return st.Err()
	case ctx.Err() == nil && st.Code() == codes.DeadlineExceeded: // its clock was a little faster
		return context.DeadlineExceeded
	case strings.Contains(st.Message(), "error reading server preface: http2:"):
		return a.unreachable(ctx, errors.New(st.Message()))
	}
	return a.unreachable(ctx, fmt.Errorf("%s: %w", st.Message(), io.ErrUnexpectedEOF))
}

// isTooLarge tells whether the client has refused an answer, of which it had the headers, for its size: with the limit in its words.
// An application that is a server of grpc-go refuses a request in the same words, with a limit of its own, and without headers.
func (a *App) isTooLarge(st *status.Status) bool {
	return st.Code() == codes.ResourceExhausted && strings.HasPrefix(st.Message(), "grpc: received message") &&
		strings.HasSuffix(strings.TrimSuffix(st.Message(), ")"), " "+strconv.FormatInt(a.limit, 10))
}

// outgoing is the metadata of a call: what the request says, and over it md.
func outgoing(asked map[string]string, md metadata.MD) (metadata.MD, error) {
	out := metadata.MD{}
	for name, value := range asked {
		name = strings.ToLower(name)
		if !passes(name) {
			continue
		}
		if strings.HasSuffix(name, binary) {
			b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				return nil, fmt.Errorf("%w: metadata %q is not base64: %w", components.ErrInvalid, name, err)
			}
			value = string(b)
		}
		out.Set(name, value)
	}
	for name, values := range md {
		out.Set(name, values...)
	}
	return out, nil
}

// binary ends the names of metadata that is bytes: in the text of a message it stands as base64.
const binary = "-bin"

// flat are an answer's metadata, each as one value; of binary ones the first.
func flat(all metadata.MD) map[string]string {
	out := make(map[string]string, len(all))
	for name, values := range all {
		switch {
		case len(values) == 0 || !passes(name):
		case strings.HasSuffix(name, binary):
			out[name] = base64.StdEncoding.EncodeToString([]byte(values[0]))
		default:
			out[name] = strings.ToValidUTF8(strings.Join(values, ", "), "?")
		}
	}
	return out
}

// payload is a marshalled message, passed through as it is.
type payload []byte

type raw struct{}

var _ encoding.CodecV2 = raw{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(payload)
	if !ok {
		return nil, fmt.Errorf("callback: cannot marshal %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(p)}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*payload)
	if !ok {
		return fmt.Errorf("callback: cannot unmarshal into %T", v)
	}
	*p = data.Materialize()
	return nil
}
