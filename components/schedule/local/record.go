package local

import (
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// content is a job as it was created. Origin and End are of the job's own clock: see job.clock.
type content struct {
	Serial      uint64            `cbor:"1,keyasint"` // tells it from every other job
	Cron        string            `cbor:"2,keyasint,omitempty"`
	Zone        string            `cbor:"3,keyasint,omitempty"`
	Every       time.Duration     `cbor:"4,keyasint,omitempty"`
	At          time.Time         `cbor:"5,keyasint,omitzero"`
	Data        []byte            `cbor:"6,keyasint,omitempty"`
	ContentType string            `cbor:"7,keyasint,omitempty"`
	Metadata    map[string]string `cbor:"8,keyasint,omitempty"`
	Missed      schedule.Missed   `cbor:"9,keyasint,omitempty"`
	Repeats     int               `cbor:"10,keyasint,omitempty"`
	Until       time.Time         `cbor:"11,keyasint,omitzero"`
	Origin      time.Time         `cbor:"12,keyasint"`          // when it was created
	End         time.Time         `cbor:"13,keyasint,omitzero"` // after which nothing is due
	Durability  db.Durability     `cbor:"14,keyasint"`
	SkipAfter   time.Duration     `cbor:"15,keyasint,omitempty"`
	Retention   time.Duration     `cbor:"16,keyasint,omitempty"`
}

// run is what has become of a job.
type run struct {
	Serial   uint64    `cbor:"1,keyasint"`          // of the job
	Revision uint64    `cbor:"2,keyasint"`          // of this record
	Next     time.Time `cbor:"3,keyasint,omitzero"` // by the job's clock; zero: it fires no more
	Fired    int64     `cbor:"4,keyasint,omitempty"`
	Last     time.Time `cbor:"5,keyasint,omitzero"` // the firing that was settled last, by the wall clock
	Firing   *firing   `cbor:"6,keyasint,omitempty"`
	Over     db.Time   `cbor:"7,keyasint,omitempty"` // when it had fired for the last time and all was settled
}

// firing is one that is not settled.
type firing struct {
	ID        uint64    `cbor:"1,keyasint"`
	Due       time.Time `cbor:"2,keyasint"` // by the wall clock
	Attempts  int       `cbor:"3,keyasint,omitempty"`
	NotBefore db.Time   `cbor:"4,keyasint,omitempty"`
	DropAt    db.Time   `cbor:"5,keyasint,omitempty"` // unless it is delivered until then
}

func contentKey(key string) []byte { return []byte("j" + key) }
func runKey(key string) []byte     { return []byte("r" + key) }

// unreadable is the error of a job with a record that cannot be read.
func unreadable(key string, why error) error {
	return fmt.Errorf("%w; it does not fire: delete it, or create it anew with replace", store.Unreadable("job", name(key), why))
}

func decode(key string, raw []byte, into any) error {
	if err := store.DecodeRecord(raw, into); err != nil {
		return unreadable(key, err)
	}
	return nil
}

func (c *content) job(name string) schedule.Job {
	return schedule.Job{Name: name, Trigger: c.trigger(), Data: c.Data, ContentType: c.ContentType, Metadata: c.Metadata, Missed: c.Missed,
		Repeats: c.Repeats, Until: c.Until}
}

func (c *content) trigger() schedule.Trigger {
	return schedule.Trigger{Cron: c.Cron, Zone: c.Zone, Every: c.Every, At: c.At}
}

func contentOf(in *createIn) content {
	j := &in.Job
	return content{Cron: j.Trigger.Cron, Zone: j.Trigger.Zone, Every: j.Trigger.Every, At: j.Trigger.At, Data: j.Data,
		ContentType: j.ContentType, Metadata: j.Metadata, Missed: j.Missed, Repeats: j.Repeats, Until: j.Until,
		Durability: db.Durability(in.Durability), SkipAfter: in.SkipAfter, Retention: in.Retention}
}

// name is what a key has behind the component.
func name(key string) string {
	for i := range len(key) {
		if key[i] == '/' {
			return key[i+1:]
		}
	}
	return key
}
