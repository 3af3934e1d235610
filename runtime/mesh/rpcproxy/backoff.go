package rpcproxy

import (
	"math/rand/v2"
	"time"
)

const backoffGrowth = 1.6

// backoff keeps an upstream that cannot be connected from being tried for every request. u.mu is held.
type backoff struct {
	wait  time.Duration
	until time.Time
	err   error // of the last attempt
}

func (o *backoff) failed(r *Relay, err error) {
	if o.wait = time.Duration(float64(o.wait) * backoffGrowth); o.wait == 0 {
		o.wait = r.DialBackoff
	}
	o.wait = min(o.wait, r.MaxDialBackoff)
	o.until, o.err = time.Now().Add(jitter(o.wait, 0.2)), err
}

func (o *backoff) succeeded() { *o = backoff{} }

// resting returns the last error while no new attempt is to be made.
func (o *backoff) resting() error {
	if o.err != nil && time.Now().Before(o.until) {
		return o.err
	}
	return nil
}

// jitter varies d by a part of it, both ways.
func jitter(d time.Duration, part float64) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*part*float64(d))
}
