package db

import (
	"encoding/binary"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Time is a moment of the store's clock in nanoseconds. It goes on evenly, whatever is done to the wall clock, through every end
// and start of a process, and while the machine sleeps; it never goes back. Only where the machine was started anew the
// wall clock says how long that took.
type Time int64

// Add is the time d later.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub is how much later t is than u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Clock is where the store's clock gets the time from.
type Clock struct {
	Wall   func() time.Time
	Uptime func() time.Duration // since the machine was started, sleep included
	Boot   string               // tells one start of the machine from another
}

func (c Clock) orMachine() Clock {
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.Uptime == nil {
		c.Uptime = Uptime
	}
	if c.Boot == "" {
		c.Boot = boot()
	}
	return c
}

func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// steady is the store's clock: time is base at the uptime of start.
type steady struct {
	Clock
	base  Time
	start time.Duration
	noted atomic.Int64 // the last that was written down
	found stamp        // what was written down when the store was opened
}

// stamp is what noteTime writes down. The zero value is that of a store without one.
type stamp struct {
	at     Time
	uptime time.Duration
	wall   time.Time
	boot   string
}

func stampOf(noted []byte) stamp {
	if len(noted) < 24 {
		return stamp{}
	}
	number := func(at int) int64 { return int64(binary.BigEndian.Uint64(noted[at:])) }
	return stamp{Time(number(0)), time.Duration(number(8)), time.Unix(0, number(16)), string(noted[24:])}
}

func (s *steady) now() Time { return s.base.Add(s.Uptime() - s.start) }

// noteEvery is how much of the clock may be lost with the power.
const noteEvery = time.Second

// noteTime writes down what time it is, if that was not done just now.
func (d *DB) noteTime(b *pebble.Batch) error {
	now := d.Now()
	if now.Sub(Time(d.clock.noted.Load())) < noteEvery {
		return nil
	}
	d.clock.noted.Store(int64(now))
	v := binary.BigEndian.AppendUint64(nil, uint64(now))
	v = binary.BigEndian.AppendUint64(v, uint64(d.clock.Uptime()))
	v = binary.BigEndian.AppendUint64(v, uint64(d.clock.Wall().UnixNano()))
	return b.Set(keyTime, append(v, d.clock.Boot...), nil)
}

// resume is the clock that goes on from what noteTime wrote.
func resume(c Clock, noted []byte) *steady {
	s := &steady{Clock: c.orMachine(), found: stampOf(noted)}
	s.start = s.Uptime()
	if s.found == (stamp{}) {
		s.noted.Store(int64(-noteEvery)) // the first commit writes it down
		return s
	}
	passed := s.start - s.found.uptime
	if s.found.boot != s.Boot {
		passed = s.Wall().Sub(s.found.wall)
	}
	s.base = s.found.at.Add(max(passed, 0))
	s.noted.Store(int64(s.base - Time(noteEvery)))
	return s
}
