package store

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"google.golang.org/grpc/mem"
)

// Between processes the store speaks gRPC over a unix socket in its folder. A method is /store/NAME; a message is a byte that says
// what it is and CBOR: structs as maps by the names of their fields, so that another version may have more or fewer.
const (
	protocol  = 1
	prefix    = "/store/"
	helloName = "owner/hello"
	pingName  = "owner/ping"
)

// The first byte of a message.
const (
	isValue = 0
	isFault = 1 // the call ends with it
)

// beginHeader says by when a call has to begin, in nanoseconds of db.Uptime, which all processes of a machine share. An
// owner that was frozen begins nothing for those who have given up.
const (
	beginHeader    = "outrigger-begin-by"
	deadlineHeader = "outrigger-deadline"
)

type hello struct {
	Protocol int
	PID      int
}

// maxMessage bounds one; what the fronts let through is smaller.
const maxMessage = 64 << 20

var (
	encoding, _ = cbor.EncOptions{Time: cbor.TimeRFC3339NanoUTC}.EncMode() // the default leaves out fractions of a second
	decoding, _ = cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid, MaxArrayElements: 1 << 22, MaxMapPairs: 1 << 22}.DecMode()
)

func encode(v any) ([]byte, error) {
	b, err := encoding.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T for the store: %w", v, err)
	}
	return append([]byte{isValue}, b...), nil
}

func encodeError(err error) []byte {
	b, failed := encoding.Marshal(encodeFault(err))
	if failed != nil {
		b, _ = encoding.Marshal(fault{Text: err.Error()}) // a struct of a string
	}
	return append([]byte{isFault}, b...)
}

func decode(b []byte, into any) error {
	if len(b) == 0 {
		return errors.New("the store sent an empty message")
	}
	if b[0] == isFault {
		var f fault
		if err := decoding.Unmarshal(b[1:], &f); err != nil {
			return fmt.Errorf("decode an error of the store: %w", err)
		}
		return f.decode()
	}
	if err := decoding.Unmarshal(b[1:], into); err != nil {
		return fmt.Errorf("decode %T from the store: %w", into, err)
	}
	return nil
}

// frames is the codec of gRPC: messages are bytes already.
type frames struct{}

func (frames) Name() string { return "outrigger-store" }

func (frames) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no message of the store", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

func (frames) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is no message of the store", v)
	}
	*b = data.Materialize()
	return nil
}
