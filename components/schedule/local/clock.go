package local

import (
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

const (
	// believeAfter is how long the wall clock must have differed by the same before that is taken for right.
	believeAfter = 10 * time.Minute
	// slack is by how much the clocks may seem to differ because they are not read at once.
	slack = 10 * time.Millisecond
	// creep is by how much they may differ more, or less, than when they were looked at before, and yet the wall clock was not set anew:
	// some machines put theirs right by a little each minute, for ever.
	creep = 100 * time.Millisecond
	// lookAgain is how often the clocks are looked at, though no job is due by them: the wall clock may have been set, and the machine
	// may have slept.
	lookAgain = 5 * time.Second
)

// source is where the clocks are read.
type source interface {
	Now() db.Time
	Wall() time.Time
}

// clock tells the time of jobs that go by the wall clock: see Time in the package's comment.
type clock struct {
	source source

	mu     sync.Mutex
	base   time.Time     // what the even clock showed
	at     db.Time       // then
	differ time.Duration // when they were looked at last; 0: they do not
	since  db.Time       // when they began to differ by about that; only if they do
}

func newClock(s source) *clock {
	c := &clock{source: s}
	c.base, c.at = s.Wall().UTC(), s.Now()
	return c
}

// now is the earlier of what the clocks show.
func (c *clock) now() time.Time {
	earlier, _ := c.look()
	return earlier
}

// look is now, and what the wall clock shows.
func (c *clock) look() (earlier, wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.source.Now()
	wall = c.source.Wall().UTC().Round(0)
	even := c.base.Add(at.Sub(c.at))
	differ := wall.Sub(even)
	switch {
	case differ.Abs() <= slack:
		c.differ = 0
	case c.differ == 0, (differ - c.differ).Abs() > creep:
		c.differ, c.since = differ, at
	case at.Sub(c.since) >= believeAfter:
		c.base, c.at, c.differ = wall, at, 0
		even = wall
	default:
		c.differ = differ
	}
	if wall.Before(even) {
		return wall, wall
	}
	return even, wall
}

// of is what the even clock shows at a time of the store's.
func (c *clock) of(at db.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base.Add(at.Sub(c.at))
}
