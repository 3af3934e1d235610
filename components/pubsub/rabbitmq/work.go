package rabbitmq

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// work is what a member does on one connection. For one goroutine.
type work struct {
	m                    *member
	control, keep, input *amqp.Channel
	there                bool // it is counted among those who want a share
	asking               int  // tokens that it asks for beyond those it has
	tag                  string
	tokens, events       <-chan amqp.Delivery
}

func (w *work) hangUp() {
	for _, ch := range []*amqp.Channel{w.control, w.keep, w.input} {
		if ch != nil {
			_ = ch.Close()
		}
	}
	for _, rest := range []<-chan amqp.Delivery{w.tokens, w.events} {
		if rest != nil {
			go drain(rest)
		}
	}
}

func drain(rest <-chan amqp.Delivery) {
	for range rest { // until the channel that it is of is closed
	}
}

// serve works until the connection is lost, or the member stops: then all that was settled is kept, or why not is answered.
func (w *work) serve(begun func()) error {
	var err error
	for _, ch := range []**amqp.Channel{&w.control, &w.keep, &w.input} {
		if *ch, err = w.m.d.link.channel(w.m.stopping); err != nil {
			return err
		}
	}
	if err := errors.Join(w.keep.Confirm(false), w.input.Qos(prefetch, 0, false)); err != nil {
		return err
	}
	lost := w.control.NotifyClose(make(chan *amqp.Error, 1))
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	if err := w.balance(); err != nil {
		return err
	}
	begun()
	for {
		err := error(nil)
		events := w.events
		if w.m.full() {
			events = nil
		}
		select {
		case token, ok := <-w.tokens:
			if !ok {
				return errors.New("the tokens ended")
			}
			err = w.acquire(token)
		case event, ok := <-events:
			if !ok {
				return errors.New("the stream ended")
			}
			err = w.take(event)
		case <-w.m.kick:
			if wants, _ := w.m.wants(); wants != w.there {
				err = w.balance()
			} else {
				err = w.release()
			}
		case <-ticker.C:
			if err = w.save(); err == nil {
				err = w.balance()
			}
		case kept := <-w.m.flushes:
			err = w.save()
			kept <- err
		case gone := <-lost:
			return fmt.Errorf("the connection was lost: %w", gone)
		case <-w.m.stopping.Done():
			return w.save()
		}
		if err != nil {
			return err
		}
	}
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
	if wants != w.there {
		if err := w.show(wants); err != nil {
			return err
		}
	}
	q, err := w.control.QueueDeclarePassive(w.m.base+".there", true, false, false, false, nil)
	if err != nil {
		return err
	}
	share := 0
	switch {
	case wants:
		share = (parts + max(q.Consumers, 1) - 1) / max(q.Consumers, 1)
	case q.Consumers == 0:
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
	w.there = there
	if !there {
		return w.control.Cancel("there", false)
	}
	none, err := w.control.Consume(w.m.base+".there", "there", true, false, false, false, nil)
	if err == nil {
		go drain(none)
	}
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
	for _, p := range m.parts {
		if p.leaving {
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

// ask has the server give so many tokens, and no more.
func (w *work) ask(n int) error {
	if n == w.asking && (n > 0 || w.tokens == nil) {
		return nil
	}
	if w.tokens != nil { // also when it asks for none: what it gives back would come to it again
		if err := w.control.Cancel(w.tag, false); err != nil {
			return err
		}
		rest := w.tokens
		w.tokens, w.asking = nil, 0
		for token := range rest { // those that came before it was cancelled
			if err := w.acquire(token); err != nil {
				return err
			}
			n--
		}
	}
	if n <= 0 {
		return nil
	}
	if err := w.control.Qos(n, 0, false); err != nil {
		return err
	}
	w.tag = "tokens " + rand.Text() // one that is used again counts as the same to the server, with what that one has
	tokens, err := w.control.Consume(w.m.base, w.tag, false, false, false, false, nil)
	w.tokens, w.asking = tokens, n
	return err
}
