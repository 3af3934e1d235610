package rabbitmq

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// askAgain is after how long another claim is made where nothing came: a delivery can be lost with the leader of the queue.
	askAgain = 5 * time.Second
	// renewEvery is after how long a message is given back, to be claimed anew: the server takes it away after half an hour, with all that the channel
	// has. A part that is busy is given up after twice as long.
	renewEvery = 10 * time.Minute
)

// claim asks for one message of a queue, on a channel of its own: when that is closed the server takes the message back, whether it has come, is on
// its way, or was lost on it.
type claim struct {
	ch    *amqp.Channel
	since time.Time
}

// arrival is what came of a claim: its message, or the end of its channel.
type arrival struct {
	claim *claim
	token amqp.Delivery
	ended bool
}

func (w *work) claim(queue string) (*claim, error) {
	ch, err := w.conn.Channel()
	if err != nil {
		return nil, err
	}
	err = ch.Qos(1, 0, false)
	var came <-chan amqp.Delivery
	if err == nil {
		came, err = ch.Consume(queue, "", false, false, false, false, nil)
	}
	if err != nil {
		_ = ch.Close()
		return nil, err
	}
	c := &claim{ch: ch, since: time.Now()}
	go w.pass(c, came)
	return c, nil
}

// pass tells of what comes, as long as somebody asks.
func (w *work) pass(c *claim, came <-chan amqp.Delivery) {
	tell := func(a arrival) {
		select {
		case w.arrived <- a:
		case <-w.over:
		}
	}
	for token := range came {
		tell(arrival{claim: c, token: token})
	}
	tell(arrival{claim: c, ended: true})
}

// giveBack ends a claim. It may be nil.
func (c *claim) giveBack() {
	if c != nil {
		_ = c.ch.Close()
	}
}
