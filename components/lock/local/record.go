package local

import (
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// holder is who has a lock. A lock that nobody has has no record.
type holder struct {
	Token    uint64  `cbor:"1,keyasint"`
	Owner    string  `cbor:"2,keyasint"`
	Deadline db.Time `cbor:"3,keyasint"`
	// Again: more than one call was told of the token, so that none of them alone may give the lock back.
	Again bool `cbor:"4,keyasint,omitempty"`
	// Raised is db.Space.Raised of when the token was given: since then others may have been given greater ones.
	Raised uint64 `cbor:"5,keyasint,omitempty"`
}

// decode reads the record of a lock.
func decode(key string, record []byte) (h holder, err error) {
	if err := store.DecodeRecord(record, &h); err != nil {
		return h, store.Unreadable("lock", key, err)
	}
	return h, nil
}
