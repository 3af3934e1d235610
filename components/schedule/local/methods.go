package local

import (
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// What driver and machine say to each other. Keys are C/NAMESPACE/APP/NAME.
var (
	createCall = store.Unary[createIn, schedule.State]{Name: "schedule/create", Safe: true} // the same job again is no error
	getCall    = store.Unary[getIn, schedule.State]{Name: "schedule/get", Safe: true}
	listCall   = store.Unary[listIn, listOut]{Name: "schedule/list", Safe: true}
	deleteCall = store.Unary[deleteIn, struct{}]{Name: "schedule/delete", Safe: true}
	watchCall  = store.Bidi[watchIn, watchOut]{Name: "schedule/watch"}
)

type createIn struct {
	Key                  string
	Job                  schedule.Job
	Replace              bool
	Durability           string
	SkipAfter, Retention time.Duration
}

type getIn struct{ Key string }

type listIn struct {
	Prefix, After string
	Limit         int
}

type listOut struct{ Jobs []schedule.State }

type deleteIn struct{ Key, Durability string }

// watchIn is, first of all, a Start; then what is wanted, in place of what was wanted before, and settlements; and at the end a Last.
type watchIn struct {
	Start  *start
	Wanted *wanted
	Settle []schedule.Settlement
	Last   *last
}

type start struct {
	Application string // C/NAMESPACE/APP/
	Prefix      string // of names
	Term        time.Duration
}

type wanted struct {
	Turn uint64 // tells the answers to this from those to what was wanted before
	Room schedule.Room
}

// last names the turn whose answer came to somebody last: what was sent for a later one has met nobody.
type last struct{ Turn uint64 }

// watchOut is, first of all, that the session is there; then, once for each wanted, some firings.
type watchOut struct {
	Turn    uint64
	Firings []schedule.Firing
}
