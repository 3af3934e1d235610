package local

import (
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// What driver and machine say to each other. Keys are C/NAMESPACE/APP/GID. All but listing may be repeated: what is decided already is no
// error, and what a session wrote twice is the same.
var (
	beginCall    = store.Unary[beginIn, beginOut]{Name: "transaction/begin", Safe: true}
	registerCall = store.Unary[registerIn, struct{}]{Name: "transaction/register", Safe: true}
	decideCall   = store.Unary[decideIn, decideOut]{Name: "transaction/decide", Safe: true}
	getCall      = store.Unary[getIn, transaction.Info]{Name: "transaction/get", Safe: true}
	listCall     = store.Unary[listIn, listOut]{Name: "transaction/list", Safe: true}
	countCall    = store.Unary[getIn, transaction.Counts]{Name: "transaction/count", Safe: true}
	writeCall    = store.Unary[writeIn, struct{}]{Name: "transaction/write", Safe: true}
	waitCall     = store.Bidi[getIn, transaction.Info]{Name: "transaction/wait"}
	driveCall    = store.Bidi[driveIn, driveOut]{Name: "transaction/drive"}
)

type beginIn struct {
	Key        string
	Content    content
	Durability db.Durability
	Session    uint64 // that is to drive it, if it is there
	Max        int    // of the component's transactions that have not ended
}

// beginOut is the state, and whether it is begun by that; on the wire it is one map.
type beginOut struct {
	transaction.Info
	New bool
}

// registerIn adds a branch; without one it says that the try of that id was OK.
type registerIn struct {
	Key        string
	Branch     *transaction.Branch
	Tried      string
	Durability db.Durability
}

type decideIn struct {
	Key        string
	Decision   transaction.Decision
	Durability db.Durability
}

type decideOut struct {
	Info    transaction.Info
	Changed bool
}

type getIn struct{ Key string }

type listIn struct {
	Prefix, After string
	Limit         int
	States        []transaction.State
	OlderThan     time.Duration
}

type listOut struct {
	All  []transaction.Info
	More bool
}

// writeIn is what a session writes of a transaction that it drives.
type writeIn struct {
	Key        string
	Epoch      uint64
	Revision   uint64 // counts what it writes; what is older than what is there is passed over
	Run        run
	Durability db.Durability
}

// driveIn is, first of all, a Start; then beats, and progress that nobody waits for.
type driveIn struct {
	Start *driveStart
	Write *writeIn
}

type driveStart struct {
	Application string // C/NAMESPACE/APP/
	Lease       time.Duration
}

// driveOut is, first of all, the name of the session; then what it drives from now on.
type driveOut struct {
	Session uint64
	Work    []work
}

// work is a transaction that is given to a session, in place of what it has of that key. One that is final is only to be let go.
type work struct {
	Key     string
	Epoch   uint64
	Content content
	Run     run
	Now     db.Time
}
