package apitest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	nethttp "net/http"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// jsonConn lets generated clients speak the Connect protocol in JSON.
type jsonConn struct {
	client *nethttp.Client
	base   string
}

func newJSON(t testing.TB, addr string) *jsonConn {
	transport := &nethttp.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &jsonConn{&nethttp.Client{Transport: transport}, "http://" + addr}
}

func (c *jsonConn) do(ctx context.Context, method, contentType string, body []byte) (*nethttp.Response, error) {
	r, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodPost, c.base+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", contentType)
	if deadline, ok := ctx.Deadline(); ok {
		r.Header.Set("Connect-Timeout-Ms", strconv.FormatInt(max(time.Until(deadline).Milliseconds(), 1), 10))
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		for name, values := range md {
			r.Header[nethttp.CanonicalHeaderKey(name)] = values
		}
	}
	resp, err := c.client.Do(r)
	if err != nil && ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return resp, err
}

func (c *jsonConn) Invoke(ctx context.Context, method string, in, out any, _ ...grpc.CallOption) error {
	body, err := protojson.Marshal(in.(proto.Message))
	if err != nil {
		return err
	}
	return c.raw(ctx, method, body, out.(proto.Message))
}

func (c *jsonConn) raw(ctx context.Context, method string, body []byte, out proto.Message) error {
	resp, err := c.do(ctx, method, "application/json", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
		return fmt.Errorf("HTTP %d with content-type %q: %s", resp.StatusCode, ct, text)
	}
	if resp.StatusCode != nethttp.StatusOK {
		return connectError(text)
	}
	return protojson.Unmarshal(text, out)
}

// connectError reads an error as the Connect protocol writes it.
func connectError(text []byte) error {
	var e struct {
		Code, Message string
		Details       []struct{ Type, Value string }
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	st := &rpcstatus.Status{Message: e.Message, Code: int32(codes.Unknown)}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if snake(code.String()) == e.Code {
			st.Code = int32(code)
		}
	}
	for _, d := range e.Details {
		value, err := base64.RawStdEncoding.DecodeString(d.Value)
		if err != nil {
			return err
		}
		st.Details = append(st.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type, Value: value})
	}
	return status.FromProto(st).Err()
}

func snake(camel string) string {
	var out []byte
	for i, c := range []byte(camel) {
		if c >= 'A' && c <= 'Z' {
			if i > 0 {
				out = append(out, '_')
			}
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return string(out)
}

func (c *jsonConn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &jsonStream{ctx: ctx, c: c, method: method}, nil
}

// jsonStream is a call with one request and many answers.
type jsonStream struct {
	grpc.ClientStream
	ctx    context.Context
	c      *jsonConn
	method string
	body   []byte
	resp   *nethttp.Response
}

func (s *jsonStream) Context() context.Context { return s.ctx }

func (s *jsonStream) SendMsg(m any) error {
	text, err := protojson.Marshal(m.(proto.Message))
	s.body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(text))), text...)
	return err
}

func (s *jsonStream) CloseSend() (err error) {
	s.resp, err = s.c.do(s.ctx, s.method, "application/connect+json", s.body)
	return err
}

func (s *jsonStream) RecvMsg(m any) error {
	if s.resp.Header.Get("Content-Type") != "application/connect+json" {
		text, err := io.ReadAll(s.resp.Body)
		if err != nil {
			return err
		}
		return connectError(text)
	}
	var head [5]byte
	if _, err := io.ReadFull(s.resp.Body, head[:]); err != nil {
		return s.failed(err)
	}
	text := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(s.resp.Body, text); err != nil {
		return s.failed(err)
	}
	if head[0] == 0 {
		return protojson.Unmarshal(text, m.(proto.Message))
	}
	defer s.resp.Body.Close()
	var end struct{ Error json.RawMessage }
	if err := json.Unmarshal(text, &end); err != nil || end.Error == nil {
		return io.EOF
	}
	return connectError(end.Error)
}

func (s *jsonStream) failed(err error) error {
	if s.ctx.Err() != nil {
		return status.FromContextError(s.ctx.Err()).Err()
	}
	return err
}

// compressed sends a body in gzip.
func (c *jsonConn) compressed(ctx context.Context, method string, body []byte) error {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(body)
	z.Close()
	r, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodPost, c.base+method, &b)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	resp, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return connectError(text)
}
