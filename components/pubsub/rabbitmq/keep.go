package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	amqp "github.com/rabbitmq/amqp091-go"
)

// keepTime is how long the server may take to confirm how far parts are.
const keepTime = 5 * time.Second

// arrive looks at what came of a claim. One that was given up meanwhile has given back what came.
func (w *work) arrive(a arrival) {
	if a.claim == w.seat {
		if a.ended {
			w.seat = nil
		}
		return
	}
	if i := slices.Index(w.asks, a.claim); i >= 0 {
		w.asks = slices.Delete(w.asks, i, i+1)
		if a.ended {
			return
		}
		if err := w.acquire(a); err != nil {
			a.claim.giveBack()
			w.tend(func() error { return err })
		}
		return
	}
	if a.ended {
		w.lose(a.claim)
	}
}

// lose forgets a part that the server has taken away.
func (w *work) lose(c *claim) {
	w.going = slices.DeleteFunc(w.going, func(p *part) bool { return p.claim == c })
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	for number, p := range w.m.parts {
		if p.claim == c {
			w.m.drop(number)
		}
	}
}

// acquire begins with a part where another has left it.
func (w *work) acquire(a arrival) error {
	if len(a.token.Body) != 1 || a.token.Body[0] >= parts {
		return fmt.Errorf("%q is no token", a.token.Body)
	}
	number := int(a.token.Body[0])
	at, ok, err := a.claim.ch.Get(progressQueue(w.m.base, number), false)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("it is not known how far part %d is", number)
	}
	var p progress
	if err := cbor.Unmarshal(at.Body, &p); err != nil {
		return fmt.Errorf("how far part %d is cannot be read: %w", number, err)
	}
	if err := at.Nack(false, true); err != nil {
		return err
	}
	a.claim.since = time.Now()
	w.m.mu.Lock()
	w.m.parts[number] = newPart(number, a.claim, p)
	w.m.tell()
	w.m.mu.Unlock()
	w.unread, w.gained = true, time.Now()
	w.look(false)
	return nil
}

// release lets the parts go that are to leave, and of which applications have nothing any more.
func (w *work) release() error {
	w.m.mu.Lock()
	for number, p := range w.m.parts {
		if p.leaving && p.given == 0 {
			w.going = append(w.going, p)
			w.m.drop(number)
		}
	}
	w.m.mu.Unlock()
	if err := w.write(w.going); err != nil {
		return err
	}
	for _, p := range w.going {
		p.claim.giveBack()
	}
	w.going = nil
	return nil
}

// save keeps how far parts are that have changed.
func (w *work) save() error {
	w.m.mu.Lock()
	changed := slices.Clone(w.going)
	for _, p := range w.m.parts {
		if p.dirty {
			changed = append(changed, p)
		}
	}
	w.m.mu.Unlock()
	return w.write(changed)
}

// write has the server keep how far parts are, and waits until it has. What it has not is written again.
func (w *work) write(all []*part) error {
	if len(all) == 0 {
		return nil
	}
	err := w.put(all)
	if err != nil {
		w.m.mu.Lock()
		for _, p := range all {
			p.dirty = true
		}
		w.m.mu.Unlock()
		if w.keep != nil {
			_ = w.keep.Close() // an older answer that comes late is of no use
		}
	}
	return err
}

func (w *work) put(all []*part) error {
	if err := w.open(&w.keep, func(ch *amqp.Channel) error { return ch.Confirm(false) }); err != nil {
		return err
	}
	var kept []*amqp.DeferredConfirmation
	for _, p := range all {
		w.m.mu.Lock()
		body, err := cbor.Marshal(p.progress())
		p.dirty = false
		w.m.mu.Unlock()
		if err != nil {
			return err
		}
		c, err := w.keep.PublishWithDeferredConfirm("", progressQueue(w.m.base, p.number), false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body})
		if err != nil {
			return err
		}
		kept = append(kept, c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepTime)
	defer cancel()
	for _, c := range kept {
		if acked, err := c.WaitContext(ctx); err != nil || !acked {
			return errors.Join(errors.New("the server did not confirm what is settled"), err)
		}
	}
	return nil
}
