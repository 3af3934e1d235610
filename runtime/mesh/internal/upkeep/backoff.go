package upkeep

import (
	"math/rand/v2"
	"time"
)

const (
	backoffGrowth = 1.6
	backoffJitter = 0.2
)

// Backoff keeps an upstream that cannot be connected from being tried for every request. The zero value has not failed. It is not for
// concurrent use.
type Backoff struct {
	wait  time.Duration
	until time.Time
	err   error // of the last attempt
}

// Failed says that an attempt failed with err: the next one is to be made after first, or, each time that it fails again, after 1.6 times as
// long as before, but at most after most; a fifth more or less, so that not all who wait come at once.
func (o *Backoff) Failed(first, most time.Duration, err error) {
	if o.wait = time.Duration(float64(o.wait) * backoffGrowth); o.wait == 0 {
		o.wait = first
	}
	o.wait = min(o.wait, most)
	o.until, o.err = time.Now().Add(Jitter(o.wait, backoffJitter)), err
}

// Succeeded says that an attempt did not fail.
func (o *Backoff) Succeeded() { *o = Backoff{} }

// Resting returns the last error while no new attempt is to be made, and nil from then on.
func (o *Backoff) Resting() error {
	if o.err != nil && time.Now().Before(o.until) {
		return o.err
	}
	return nil
}

// Jitter varies d by a part of it, both ways.
func Jitter(d time.Duration, part float64) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*part*float64(d))
}
