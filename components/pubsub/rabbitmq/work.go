package rabbitmq

import (
	"fmt"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// work is what a member does on one connection. For one goroutine.
type work struct {
	m             *member
	conn          *amqp.Connection
	control, keep *amqp.Channel // made anew when the server has ended them
	arrived       chan arrival
	over          chan struct{}

	seat  *claim   // by which it is counted among those who want a share
	asks  []*claim // for tokens, beyond those it has
	going []*part  // that it gives up, and has not yet kept how far they are

	begun bool            // it was counted before
	pause backend.Backoff // after what the server did not do
	after time.Time       // when it is asked again

	reader
}

func newWork(m *member) *work {
	pause := backend.Backoff{First: 50 * time.Millisecond, Most: time.Second}
	return &work{m: m, arrived: make(chan arrival), over: make(chan struct{}), pause: pause, reader: reader{pause: pause, quiet: quietFirst}}
}

// hangUp has the server give what there is to whoever is there.
func (w *work) hangUp() {
	close(w.over)
	held := append(w.asks, w.seat)
	for _, p := range append(w.going, w.m.reset()...) {
		held = append(held, p.claim)
	}
	for _, c := range held {
		c.giveBack()
	}
	w.stopReading()
	for _, ch := range []*amqp.Channel{w.control, w.keep} {
		if ch != nil {
			_ = ch.Close()
		}
	}
}

// serve works until the connection is lost, or the member stops: then all that was settled is kept, or why not is answered.
func (w *work) serve(begun func()) error {
	var err error
	if w.conn, err = w.m.d.link.get(w.m.stopping); err != nil {
		return err
	}
	lost := w.conn.NotifyClose(make(chan *amqp.Error, 1))
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	w.tend(w.balance)
	begun()
	for {
		events := w.events
		if w.m.full() {
			events = nil
		}
		select {
		case a := <-w.arrived:
			w.arrive(a)
		case event, ok := <-events:
			if !ok || w.take(event) != nil {
				w.events, w.unread = nil, true
			}
		case <-w.m.kick:
			if wants, _ := w.m.wants(); wants != (w.seat != nil) {
				w.tend(w.balance)
			} else {
				w.tend(w.release)
			}
		case <-ticker.C:
			w.tend(w.save)
			w.tend(w.balance)
			w.look(events != nil)
		case kept := <-w.m.flushes:
			kept <- w.save()
		case gone := <-lost:
			return fmt.Errorf("the connection was lost: %w", gone)
		case <-w.m.stopping.Done():
			return w.save()
		}
	}
}

// tend does what is done again when it fails, but not at once. If the connection is lost, serve is told by itself.
func (w *work) tend(do func() error) {
	if time.Now().Before(w.after) {
		return
	}
	if err := do(); err != nil {
		w.m.d.log.Debug("a group is not served", "err", err)
		w.after = time.Now().Add(w.pause.Next())
		return
	}
	w.pause.Reset()
}

// open makes a channel if there is none.
func (w *work) open(ch **amqp.Channel, prepare func(*amqp.Channel) error) error {
	if *ch != nil && !(*ch).IsClosed() {
		return nil
	}
	fresh, err := w.conn.Channel()
	if err != nil {
		return err
	}
	*ch = fresh
	return prepare(fresh)
}

func (m *member) full() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pending >= maxPending
}

// wants tells whether some session has room, and what the member has.
func (m *member) wants() (wants bool, held int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.sessions {
		wants = wants || s.room
	}
	return wants, len(m.parts)
}

// balance has as many parts as others have: of those who have room for events. Who has none keeps what it has if nobody wants it.
func (w *work) balance() error {
	wants, held := w.m.wants()
	if err := w.show(wants); err != nil {
		return err
	}
	if err := w.open(&w.control, func(*amqp.Channel) error { return nil }); err != nil {
		return err
	}
	q, err := w.control.QueueDeclarePassive(seatsQueue(w.m.base), true, false, false, false, nil)
	if err != nil {
		return err
	}
	if q.Messages == 0 && q.Consumers == 0 { // the queue has no leader now, so nobody knows
		return w.release()
	}
	there, share := seats-q.Messages, 0
	if !w.begun { // whoever has just left may be counted still; asking for more takes nothing from others
		there, w.begun = min(there, 1), true
	}
	switch {
	case wants:
		share = (parts + max(there, 1) - 1) / max(there, 1)
	case there <= 0:
		share = held
	}
	w.m.giveUp(held-share, share)
	if err := w.ask(max(share-held, 0)); err != nil {
		return err
	}
	return w.release()
}

// show has the member counted, or not any more.
func (w *work) show(there bool) error {
	if w.seat != nil && (!there || time.Since(w.seat.since) > w.m.d.renew) {
		w.seat.giveBack()
		w.seat = nil
	}
	if w.seat != nil || !there {
		return nil
	}
	seat, err := w.claim(seatsQueue(w.m.base))
	w.seat = seat
	return err
}

// giveUp has so many parts leave, first those of which applications have nothing.
func (m *member) giveUp(n, target int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.target != target {
		m.target = target
		m.tell()
	}
	renewed := false
	for _, p := range m.parts {
		if p.leaving {
			renewed = true
			n--
		}
	}
	for _, p := range m.parts { // one at a time is given up to be asked for again, when it is idle if that can be
		if held := time.Since(p.claim.since); !renewed && !p.leaving && (held > 2*m.d.renew || held > m.d.renew && p.given == 0) {
			p.leaving, renewed = true, true
			n--
		}
	}
	for _, idle := range []bool{true, false} {
		for _, p := range m.parts {
			if n > 0 && !p.leaving && (p.given == 0) == idle {
				p.leaving = true
				n--
			}
		}
	}
}

// ask asks for so many tokens, and no more.
func (w *work) ask(n int) error {
	for i, c := range slices.Backward(w.asks) {
		if i >= n || time.Since(c.since) > askAgain {
			c.giveBack()
			w.asks = slices.Delete(w.asks, i, i+1)
		}
	}
	for len(w.asks) < n {
		c, err := w.claim(w.m.base)
		if err != nil {
			return err
		}
		w.asks = append(w.asks, c)
	}
	return nil
}
