package kafka

import (
	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// Through has a driver read through what wrap makes of the library's consumers. It is for a driver without sessions.
func Through(d pubsub.Driver, wrap func(sarama.Consumer) sarama.Consumer) {
	c := d.(*driver).conn
	c.newConsumer = func() (sarama.Consumer, error) {
		consumer, err := c.consumer()
		if err != nil {
			return nil, err
		}
		return wrap(consumer), nil
	}
}
