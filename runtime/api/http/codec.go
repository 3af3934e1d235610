package http

import (
	"errors"

	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/hint"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// codec is JSON as people write and read it: answers show what is false, 0 or empty, and a misspelt field is a fault
// rather than nothing.
type codec struct{ *vanguard.JSONCodec }

func newCodec(types vanguard.TypeResolver) vanguard.Codec {
	return codec{&vanguard.JSONCodec{
		MarshalOptions:   protojson.MarshalOptions{Resolver: types, EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{Resolver: types},
	}}
}

// Unmarshal fails as a request does that is none: the transcoder would call it unknown.
func (c codec) Unmarshal(text []byte, m proto.Message) error {
	err := c.JSONCodec.Unmarshal(text, m)
	if err == nil {
		return nil
	}
	st := api.Status(api.Malformed(hint.JSON(err, text, m.ProtoReflect().Descriptor())))
	wire := connect.NewError(connect.Code(st.Code()), errors.New(st.Message()))
	for _, any := range st.Proto().GetDetails() {
		if d, err := connect.NewErrorDetail(any); err == nil {
			wire.AddDetail(d)
		}
	}
	return wire
}
