package rabbitmq

import (
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

// returns are the messages that came back on a channel, since there is nothing that takes them. The server says so right before it confirms them
// nevertheless. Safe for concurrent use.
type returns struct {
	came  chan amqp.Return
	asks  chan question
	ended chan struct{}
	back  map[string]bool
}

type question struct {
	id     string
	answer chan<- bool
}

func newReturns(ch *amqp.Channel) *returns {
	// There is room, since the library drops what is not taken for 5 s.
	r := &returns{came: ch.NotifyReturn(make(chan amqp.Return, 256)), asks: make(chan question), ended: make(chan struct{}), back: map[string]bool{}}
	go r.run()
	return r
}

func numbered(n uint64) string { return strconv.FormatUint(n, 36) }

// run ends with the channel.
func (r *returns) run() {
	defer close(r.ended)
	for {
		select {
		case m, ok := <-r.came:
			if !ok {
				return
			}
			r.back[m.CorrelationId] = true
		case q := <-r.asks:
			for n := len(r.came); n > 0; n-- { // of what was confirmed it is here, if it came back
				if m, ok := <-r.came; ok {
					r.back[m.CorrelationId] = true
				}
			}
			q.answer <- r.back[q.id]
			delete(r.back, q.id)
		}
	}
}

// has tells whether a message came back that was confirmed.
func (r *returns) has(number uint64) bool {
	answer, id := make(chan bool, 1), numbered(number)
	select {
	case r.asks <- question{id, answer}:
		return <-answer
	case <-r.ended:
		return r.back[id]
	}
}
