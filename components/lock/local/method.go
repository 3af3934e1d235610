package local

import (
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// The calls between driver and machine. An owner that asks twice has the lock once, so asking may be repeated.
var (
	tryLock = store.Unary[ask, answer]{Name: "lock/try", Safe: true}
	renew   = store.Unary[ask, answer]{Name: "lock/renew", Safe: true}
	unlock  = store.Unary[ask, answer]{Name: "lock/unlock"}
	// waitLock: the driver asks, and the machine answers once, when the lock is the asker's. Then the driver says that it has
	// heard of it, and the machine ends the stream. If that word does not come the lock is given back.
	waitLock = store.Bidi[ask, answer]{Name: "lock/wait"}
)

// ask is what is asked of a lock. The key is COMPONENT/NAMESPACE/APP/NAME.
type ask struct {
	Key        string
	Owner      string        // of tryLock and waitLock
	Token      uint64        // of renew and unlock
	Lease      time.Duration // of all but unlock
	Waited     time.Duration // since the caller came, on another stream
	Alone      bool          // of unlock: only if no other call was told of the token
	Durability db.Durability
}

// answer is empty for unlock.
type answer struct {
	Token uint64
	Left  time.Duration
}
