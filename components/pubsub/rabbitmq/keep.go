package rabbitmq

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	amqp "github.com/rabbitmq/amqp091-go"
)

// acquire begins with a part where another has left it.
func (w *work) acquire(token amqp.Delivery) error {
	if w.asking--; w.asking < 0 {
		w.asking = 0
	}
	if len(token.Body) != 1 || token.Body[0] >= parts {
		return fmt.Errorf("%q is no token", token.Body)
	}
	number := int(token.Body[0])
	at, ok, err := w.keep.Get(progressQueue(w.m.base, number), false)
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
	w.m.mu.Lock()
	w.m.parts[number] = newPart(number, token, p)
	w.m.tell()
	w.m.mu.Unlock()
	return w.read()
}

// read reads the stream from where the first of the parts is.
func (w *work) read() error {
	if w.events != nil {
		if err := w.input.Cancel("events", false); err != nil {
			return err
		}
		go drain(w.events)
		w.events = nil
	}
	w.m.mu.Lock()
	from := int64(-1)
	for _, p := range w.m.parts {
		if from < 0 || p.seen < from {
			from = p.seen
		}
	}
	w.m.mu.Unlock()
	if from < 0 {
		return nil
	}
	events, err := w.input.Consume(w.m.stream, "events", false, false, false, false, amqp.Table{"x-stream-offset": from})
	w.events = events
	return err
}

// take looks at an event of the stream.
func (w *work) take(in amqp.Delivery) error {
	offset := offsetOf(&in)
	event := decode(&in)
	number := partOf(event.OrderingKey, offset)
	w.m.mu.Lock()
	for _, p := range w.m.parts {
		if p.number == number && in.ContentType != markType {
			if e := p.add(offset, event); e != nil {
				w.m.pending++
				w.m.offer(e)
			}
		} else {
			p.pass(offset)
		}
	}
	w.m.mu.Unlock()
	return in.Ack(false)
}

// release lets the parts go that are to leave, and of which applications have nothing any more.
func (w *work) release() error {
	w.m.mu.Lock()
	var going []*part
	for number, p := range w.m.parts {
		if p.leaving && p.given == 0 {
			going = append(going, p)
			w.m.drop(number)
		}
	}
	w.m.mu.Unlock()
	if len(going) == 0 {
		return nil
	}
	if err := w.write(going); err != nil {
		return err
	}
	for _, p := range going {
		if err := p.token.Nack(false, true); err != nil {
			return err
		}
	}
	return nil
}

// save keeps how far parts are that have changed.
func (w *work) save() error {
	w.m.mu.Lock()
	var changed []*part
	for _, p := range w.m.parts {
		if p.dirty {
			changed = append(changed, p)
		}
	}
	w.m.mu.Unlock()
	return w.write(changed)
}

// write has the server keep how far parts are, and waits until it has.
func (w *work) write(all []*part) error {
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
	for _, c := range kept {
		if !c.Wait() {
			return errors.New("the server did not confirm what is settled")
		}
	}
	return nil
}
