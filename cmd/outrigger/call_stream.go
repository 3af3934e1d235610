package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/outrigger-mesh/outrigger/runtime/hint"
)

// requests are those of a call: given on the command line, and, if more is not nil, read from there until it ends.
type requests struct {
	given []proto.Message
	more  *json.Decoder
	input protoreflect.MessageDescriptor
}

// requestsOf reads the arguments of a call of m.
func requestsOf(m protoreflect.MethodDescriptor, args []string, stdin io.Reader) (r requests, err error) {
	r.input = m.Input()
	if n := len(args); n > 0 && args[n-1] == "-" {
		args, r.more = args[:n-1], json.NewDecoder(stdin)
	}
	for _, text := range args {
		in, err := r.parse([]byte(text))
		if err != nil {
			return r, err
		}
		r.given = append(r.given, in)
	}
	if m.IsStreamingClient() {
		return r, nil
	}
	if r.more != nil && len(r.given) == 0 { // the one request
		in, err := r.next()
		if err != nil && err != io.EOF {
			return r, err
		} else if err == nil {
			r.given = append(r.given, in)
		}
	}
	if len(r.given) > 1 {
		return r, fmt.Errorf("%s takes one request, not %d", m.Name(), len(r.given))
	}
	if len(r.given) == 0 {
		r.given = []proto.Message{dynamicpb.NewMessage(r.input)}
	}
	r.more = nil
	return r, nil
}

func (r requests) parse(text []byte) (proto.Message, error) {
	in := dynamicpb.NewMessage(r.input)
	if err := protojson.Unmarshal(text, in); err != nil {
		return nil, fmt.Errorf("the request is no %s: %s", r.input.FullName(), hint.JSON(err, text, r.input))
	}
	return in, nil
}

// next is io.EOF at the end.
func (r requests) next() (proto.Message, error) {
	var text json.RawMessage
	if err := r.more.Decode(&text); err != nil {
		return nil, err
	}
	return r.parse(text)
}

// stream prints a JSON text a line for each answer. Requests that are given leave a stream of them open, since its end would end what
// is asked for; those that are read end with what they are read from.
func stream(conn grpc.ClientConnInterface, path string, m protoreflect.MethodDescriptor, in requests, reading time.Duration, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if reading > 0 {
		timer := time.AfterFunc(reading, func() { cancel(errReadEnough) })
		defer timer.Stop()
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.IsStreamingClient()}, path)
	if err != nil {
		return err
	}
	for _, request := range in.given {
		if err := s.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // io.EOF: the answer says why
			return err
		}
	}
	switch {
	case !m.IsStreamingClient():
		err = s.CloseSend()
	case in.more != nil:
		go func() { // ends with the process at the latest: a read of standard input cannot be ended
			if err := in.send(s); err != nil {
				cancel(err)
			}
		}()
	}
	if err != nil {
		return err
	}
	for {
		answer := dynamicpb.NewMessage(m.Output())
		err := s.RecvMsg(answer)
		switch cause := context.Cause(ctx); {
		case errors.Is(err, io.EOF) || err != nil && cause == errReadEnough:
			return nil
		case err != nil && cause != nil:
			return status.Error(codes.InvalidArgument, cause.Error())
		case err != nil:
			return err
		}
		if err := printMessage(out, answer, ""); err != nil {
			return err
		}
	}
}

var errReadEnough = errors.New("the time to read the stream is over")

// send sends what is read until that ends.
func (r requests) send(s grpc.ClientStream) error {
	for {
		request, err := r.next()
		if err == io.EOF {
			return s.CloseSend()
		}
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		if err := s.SendMsg(request); errors.Is(err, io.EOF) { // the answer says why
			return nil
		} else if err != nil {
			return err
		}
	}
}
