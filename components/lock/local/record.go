package local

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// holder is who has a lock. A lock that nobody has has no record.
type holder struct {
	Token    uint64  `cbor:"1,keyasint"`
	Owner    string  `cbor:"2,keyasint"`
	Deadline db.Time `cbor:"3,keyasint"`
	// Again: more than one call was told of the token, so that none of them alone may give the lock back.
	Again bool `cbor:"4,keyasint,omitempty"`
}

// format is the version that records begin with.
const format = 1

func (h holder) encode() ([]byte, error) {
	b, err := cbor.Marshal(h)
	return append([]byte{format}, b...), err
}

func decode(record []byte) (h holder, err error) {
	if len(record) == 0 || record[0] != format {
		return h, fmt.Errorf("%w: a lock's record is not of format %d", components.ErrDamaged, format)
	}
	if err := cbor.Unmarshal(record[1:], &h); err != nil {
		return h, fmt.Errorf("%w: a lock's record: %w", components.ErrDamaged, err)
	}
	return h, nil
}
