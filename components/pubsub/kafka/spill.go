package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

const (
	// maxMetadata is the longest metadata of an offset: brokers take 4096 bytes unless they are told otherwise.
	maxMetadata = 4096
	// progressTopic is where what is longer stands.
	progressTopic = "_outrigger-progress"
	// uncompacted is how long a record there stays after a newer one with its key: in that time it is found where metadata say.
	uncompacted = 24 * time.Hour
)

// fit answers metadata as they are, or where they stand if they are too long.
func (g *group) fit(partition int32, metadata string) (string, error) {
	if len(metadata) <= maxMetadata {
		return metadata, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*g.d.opts.Timeout)
	defer cancel()
	topic := g.d.opts.Prefix + progressTopic
	_, err := g.d.conn.made(ctx, topic, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": fmt.Sprint(uncompacted.Milliseconds())})
	if err != nil {
		return "", err
	}
	m := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(g.progressKey(partition)), Value: sarama.StringEncoder(metadata)}
	if err := g.d.conn.big.send(ctx, []*sarama.ProducerMessage{m}); err != nil {
		return "", fmt.Errorf("topic %s: %w", topic, err)
	}
	return fmt.Sprintf("%s%d:%d", elsewhere, m.Partition, m.Offset), nil
}

func (g *group) progressKey(partition int32) string { return fmt.Sprintf("%s/%d", g.id, partition) }

var errSilent = errors.New("what the metadata say is not answered")

// find reads metadata that stand elsewhere.
func (g *group) find(partition int32, metadata string) (string, error) {
	var at int32
	var offset int64
	if n, _ := fmt.Sscanf(metadata, elsewhere+"%d:%d", &at, &offset); n != 2 {
		return metadata, nil
	}
	topic := g.d.opts.Prefix + progressTopic
	consumer, err := g.d.conn.newConsumer()
	if err != nil {
		return "", err
	}
	defer consumer.Close()
	from, err := consumer.ConsumePartition(topic, at, offset)
	if err != nil {
		return "", fmt.Errorf("topic %s: %w", topic, err)
	}
	defer from.Close()
	errs := from.Errors()
	over := time.NewTimer(3 * g.d.opts.Timeout)
	defer over.Stop()
	for {
		select {
		case m, ok := <-from.Messages():
			switch {
			case !ok:
				return "", errSilent
			case string(m.Key) == g.progressKey(partition):
				return string(m.Value), nil
			}
		case e := <-errs:
			return "", e
		case <-over.C:
			return "", errSilent
		}
	}
}
