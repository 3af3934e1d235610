package store

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/outrigger-mesh/outrigger/components"
)

// recordFormat is what records begin with that EncodeRecord makes.
const recordFormat = 1

var recordEncoding, _ = cbor.EncOptions{Sort: cbor.SortCanonical, Time: cbor.TimeRFC3339NanoUTC}.EncMode()

var errFormat = errors.New("this version does not know its format")

// EncodeRecord makes the record of a machine: a byte for its format, and CBOR.
func EncodeRecord(v any) ([]byte, error) {
	b, err := recordEncoding.Marshal(v)
	return append([]byte{recordFormat}, b...), err
}

// DecodeRecord reads one. Its error is a reason for Unreadable.
func DecodeRecord(record []byte, into any) error {
	if len(record) == 0 || record[0] != recordFormat {
		return errFormat
	}
	return cbor.Unmarshal(record[1:], into)
}

// Unreadable is the error of a record that was damaged, or that a later version wrote: a lock, say, of that name. It is for whoever
// asks for that record; a machine goes on without it. Of which kind the reason is means nothing to them.
func Unreadable(what, name string, why error) error {
	return fmt.Errorf("%w: the record of %s %q cannot be read: %v", components.ErrDamaged, what, name, why)
}
