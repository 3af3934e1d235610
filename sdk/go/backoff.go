package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// How pauses between tries grow. The same for connections, watches and the search of Dial.
const (
	firstPause  = 50 * time.Millisecond
	lastPause   = 2 * time.Second
	pauseGrowth = 1.6
	pauseJitter = 0.2
)

// backoff is the pause before the next try; the zero value is before the first.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(time.Duration(float64(b.last)*pauseGrowth), firstPause), lastPause)
	return time.Duration(float64(b.last) * (1 - pauseJitter + 2*pauseJitter*rand.Float64()))
}

// sleep is false if ctx ended, or done closed, before the time was over.
func sleep(ctx context.Context, done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-done:
		return false
	}
}
