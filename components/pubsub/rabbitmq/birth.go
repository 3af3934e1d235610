package rabbitmq

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Each stream has a birth, by which one that was deleted and made anew is told from the one before: its offsets begin anew, and how far groups are
// says nothing of it. A queue keeps it. One that a version without births has made has none.

func birthQueue(stream string) string { return stream + ".birth" }

// lastAlone are the arguments of a queue that keeps the last message.
func lastAlone() amqp.Table {
	return amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": often, "x-max-length": int64(1), "x-overflow": "drop-head"}
}

// bear keeps the birth of a stream that is about to be made.
func bear(ch *amqp.Channel, stream string) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(birthQueue(stream), true, false, false, false, lastAlone()); err != nil {
		return err
	}
	c, err := ch.PublishWithDeferredConfirm("", birthQueue(stream), false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(rand.Text())})
	if err == nil && !c.Wait() {
		err = errors.New("the server did not confirm a new topic")
	}
	return err
}

// birth answers "" for a stream that has none.
func (d *driver) birth(ctx context.Context, stream string) (string, error) {
	ch, err := d.link.channel(ctx)
	if err != nil {
		return "", err
	}
	said := make(chan string, 1)
	err = within(ctx, func() error {
		defer ch.Close()
		m, ok, err := ch.Get(birthQueue(stream), false)
		if err != nil || !ok {
			return err
		}
		said <- string(m.Body)
		return m.Nack(false, true)
	})
	if code(err) == amqp.NotFound && !homeless(err) {
		return "", nil
	}
	select {
	case birth := <-said:
		return birth, d.link.said(ctx, err)
	default: // another asks just now
		return "", d.link.said(ctx, err)
	}
}

// verdict is what a stream was found to be: which one, and how long. What it is compared with was noted before.
type verdict struct {
	birth string
	end   int64
	seen  map[*part]int64
	err   error
}

// doubt has it found out whether the stream is the one that it was. Where nobody answers it is read meanwhile, as if it were, and asked again.
func (w *work) doubt() {
	if !w.doubted || w.verdicts != nil || time.Now().Before(w.askAfter) {
		return
	}
	w.m.mu.Lock()
	v, far := verdict{seen: map[*part]int64{}}, int64(0)
	for _, p := range w.m.parts {
		v.seen[p], far = p.seen, max(far, p.seen)
	}
	w.m.mu.Unlock()
	if len(v.seen) == 0 {
		return
	}
	verdicts := make(chan verdict, 1)
	w.verdicts = verdicts
	go func() {
		ctx, cancel := context.WithTimeout(w.m.stopping, readTime)
		defer cancel()
		if v.birth, v.err = w.m.d.birth(ctx, w.m.stream); v.err == nil && far > 0 {
			ends := make(chan int64, 1)
			v.err = within(ctx, func() error {
				end, err := w.m.d.mark(ctx, w.m.stream)
				ends <- end
				return err
			})
			if v.err == nil {
				v.end = <-ends
			}
		}
		verdicts <- v
	}()
}

// judge has parts begin anew that are of another stream than the one that is there.
func (w *work) judge(v verdict) {
	w.verdicts = nil
	if w.unsure = v.err != nil; w.unsure {
		w.m.d.log.Debug("it is not known whether a topic is the one that it was", "err", v.err)
		w.askAfter = time.Now().Add(w.reader.pause.Next())
		return
	}
	w.doubted, w.birth = false, v.birth
	w.renew(func(p *part) bool { return v.seen[p] > v.end })
	w.look(false)
}

// renew has those parts begin anew that are of another stream than that of the birth, or that went further than there is anything: a server that has lost power may
// have forgotten the last events, whose offsets come again.
func (w *work) renew(beyond func(*part) bool) {
	m, any := w.m, false
	m.mu.Lock()
	defer m.mu.Unlock()
	for number, p := range m.parts {
		another := w.birth != "" && p.birth != w.birth
		if !another && !beyond(p) {
			continue
		}
		any = true
		m.drop(number)
		begin := progress{Birth: p.birth}
		if another {
			begin.Birth = w.birth
		}
		fresh := newPart(number, p.claim, begin)
		fresh.leaving, fresh.dirty = p.leaving, true
		m.parts[number] = fresh
	}
	if any {
		w.unread = true
		m.generation++ // the same offsets come again
		m.d.log.Warn("a topic was made anew, or has lost events that it had delivered: it is read from the first one on", "stream", m.stream)
	}
}
