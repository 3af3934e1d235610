package httpproxy

import (
	"net"
	"testing"
	"time"
)

// interrupted notes what is due when a connection is interrupted.
type interrupted struct {
	net.Conn
	note func()
}

func (i interrupted) SetDeadline(time.Time) error { i.note(); return nil }

// When the times of the answer and of the body are over at once, both are known before either side hears of it: else the instance was blamed for a
// client that does not send its body.
func TestBothDeadlinesAreKnownAtOnce(t *testing.T) {
	r := &Relay{}
	r.init()
	defer r.Close()
	client, server := net.Pipe()
	defer client.Close()
	c := &conn{r: r}
	var seen [][2]int64
	c.nc = interrupted{server, func() { seen = append(seen, [2]int64{c.due[0].Load(), c.due[1].Load()}) }}
	c.due[0].Store(1)
	c.due[1].Store(1)
	r.mu.Lock()
	r.conns[c] = struct{}{}
	r.mu.Unlock()
	r.sweepAll()
	r.mu.Lock() // the sweeper may have been first
	defer r.mu.Unlock()
	delete(r.conns, c)
	if len(seen) == 0 || seen[0] != [2]int64{expired, expired} {
		t.Errorf("%d", seen)
	}
}
