package http

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/hint"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// duplex serves a method with a stream of requests: JSON texts one after the other, answered by lines, both at once, also over
// HTTP/1.1. The end of the body is the end of the requests. The transcoder is not asked: it does that over HTTP/2 alone.
func (h *Handler) duplex(w nethttp.ResponseWriter, r *nethttp.Request, m protoreflect.MethodDescriptor) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		err := fmt.Errorf("%w: content-encoding %.20q is not served for a stream: send none", components.ErrInvalid, encoding)
		refuseUnread(w, r, nethttp.StatusUnsupportedMediaType, components.WithReason(err, ReasonContentType))
		return
	}
	if limit := r.Header.Get("Connect-Timeout-Ms"); limit != "" {
		r.Header.Set("Grpc-Timeout", grpcTimeout(limit))
	}
	wait := nethttp.NewResponseController(w)
	if err := wait.EnableFullDuplex(); err != nil {
		refuseUnread(w, r, 0, err)
		return
	}
	endsHere(w) // the method may end before the body does
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	r = r.WithContext(ctx)
	in := &requests{max: h.opts.MaxMessage, input: m.Input(), wait: wait, from: capped{r: r.Body}, cancel: cancel}
	in.json = json.NewDecoder(&in.from)
	r.Body, r.ContentLength = in, -1
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header.Set("Content-Type", "application/grpc")
	out := &answers{w: w, output: m.Output(), max: h.opts.MaxMessage, header: nethttp.Header{}}
	h.opts.GRPC.ServeHTTP(out, r)
	out.end(in.fault())
}

// grpcTimeout is a number of milliseconds as gRPC writes it: with eight digits at most.
func grpcTimeout(ms string) string {
	n, _ := strconv.ParseUint(ms, 10, 31) // understand has looked at it
	if n < 1e8 {
		return strconv.FormatUint(n, 10) + "m"
	}
	return strconv.FormatUint(n/1000, 10) + "S"
}

// requests makes frames of gRPC of JSON texts.
type requests struct {
	json    *json.Decoder
	from    capped
	input   protoreflect.MessageDescriptor
	max     int
	wait    *nethttp.ResponseController
	cancel  context.CancelFunc // of the method
	pending []byte
	ended   bool
	closed  atomic.Bool
	wrong   atomic.Value // an error: of the client
}

func (q *requests) Read(p []byte) (int, error) {
	if len(q.pending) == 0 && !q.ended {
		err := q.next()
		q.ended = err != nil
		if q.ended && err != io.EOF && !q.closed.Load() { // grpc-go would take it for a broken connection
			q.wrong.Store(err)
			q.cancel()
		}
	}
	if len(q.pending) == 0 {
		return 0, io.EOF
	}
	n := copy(p, q.pending)
	q.pending = q.pending[n:]
	return n, nil
}

func (q *requests) next() error {
	longest := api.TextLimit(q.max)
	q.from.left = longest + 1
	var text json.RawMessage
	err := q.json.Decode(&text)
	switch {
	case errors.Is(err, errTooLarge) || len(text) > longest:
		return api.TextTooLarge("http-api", "message", q.max)
	case err == io.EOF: // between two texts
		return io.EOF
	case err != nil:
		return api.Malformed(err.Error())
	}
	message := dynamicpb.NewMessage(q.input)
	if err := protojson.Unmarshal(text, message); err != nil {
		return api.Malformed(hint.JSON(err, text, q.input))
	}
	frame := make([]byte, envelopeSize, envelopeSize+proto.Size(message)) // grpc-go refuses one that is too large
	if frame, err = (proto.MarshalOptions{}).MarshalAppend(frame, message); err != nil {
		return api.Malformed(err.Error())
	}
	binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-envelopeSize))
	q.pending = frame
	return nil
}

// Close ends a Read that waits: the method has ended before its client.
func (q *requests) Close() error {
	q.closed.Store(true)
	return q.wait.SetReadDeadline(time.Now())
}

func (q *requests) fault() error {
	err, _ := q.wrong.Load().(error)
	return err
}

// capped reads so many bytes and no more, until it is told how many more.
type capped struct {
	r    io.Reader
	left int
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errTooLarge
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// answers makes a line of JSON of each message of a gRPC answer. An error is the last line, or the whole answer if there was no
// message before it.
type answers struct {
	w       nethttp.ResponseWriter
	output  protoreflect.MessageDescriptor
	max     int            // bytes of a message
	header  nethttp.Header // of gRPC, and its trailers
	pending []byte
	begun   bool
	failed  error
}

func (a *answers) Header() nethttp.Header { return a.header }

// WriteHeader is called once the method answers; what counts comes with the messages or the trailers.
func (a *answers) WriteHeader(int) {}

// Flush is a wish of grpc-go's: lines are flushed as they are written.
func (a *answers) Flush() {}

func (a *answers) Write(p []byte) (int, error) {
	a.pending = append(a.pending, p...)
	for a.failed == nil && len(a.pending) >= envelopeSize {
		end := envelopeSize + int(binary.BigEndian.Uint32(a.pending[1:]))
		if len(a.pending) < end {
			break
		}
		a.failed = a.message(a.pending[envelopeSize:end])
		a.pending = a.pending[:copy(a.pending, a.pending[end:])]
	}
	return len(p), a.failed
}

func (a *answers) message(data []byte) error {
	m := dynamicpb.NewMessage(a.output)
	if err := proto.Unmarshal(data, m); err != nil {
		return err
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	return a.line(text)
}

func (a *answers) line(text []byte) error {
	if !a.begun {
		a.begun = true
		a.w.Header().Set("Content-Type", typeLines)
		a.w.WriteHeader(nethttp.StatusOK)
	}
	var compact bytes.Buffer // a message is one line, whatever protojson does with white space
	if err := json.Compact(&compact, text); err != nil {
		return err
	}
	compact.WriteByte('\n')
	if _, err := a.w.Write(compact.Bytes()); err != nil {
		return err
	}
	return nethttp.NewResponseController(a.w).Flush()
}

// end tells how the method ended; fault is what was wrong with a request.
func (a *answers) end(fault error) {
	st := a.status()
	if fault != nil {
		st = api.Status(fault)
	}
	switch {
	case st.Code() != codes.OK && !a.begun:
		writeError(a.w, 0, st.Err())
	case st.Code() != codes.OK:
		text, err := json.Marshal(map[string]wireError{"error": wire(st)})
		if err == nil {
			a.line(text) // if that fails there is nobody to tell
		}
	case !a.begun:
		a.w.Header().Set("Content-Type", typeLines)
		a.w.WriteHeader(nethttp.StatusOK)
	}
}

// status reads the trailers, which grpc-go writes as headers.
func (a *answers) status() *status.Status {
	if details, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(a.trailer("Grpc-Status-Details-Bin"), "=")); err == nil && len(details) > 0 {
		var st rpcstatus.Status
		if proto.Unmarshal(details, &st) == nil {
			return status.FromProto(&st)
		}
	}
	code, err := strconv.ParseUint(a.trailer("Grpc-Status"), 10, 32)
	if err != nil {
		return status.New(codes.Internal, "the method ended without a status")
	}
	text, err := url.PathUnescape(a.trailer("Grpc-Message"))
	if err != nil {
		text = a.trailer("Grpc-Message")
	}
	if err := api.FromEngine(codes.Code(code), text, "http-api", a.max); err != nil {
		return api.Status(err)
	}
	return status.New(codes.Code(code), text)
}

func (a *answers) trailer(name string) string {
	if v := a.header.Get(name); v != "" {
		return v
	}
	return a.header.Get(nethttp.TrailerPrefix + name)
}
