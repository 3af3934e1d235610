package main

import (
	"context"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/redis/go-redis/v9"
)

// What calls begin with that go to a server without a sidecar.
const (
	directRedis = "direct-redis="
	directKafka = "direct-kafka="
)

func redisClient(address string) *redis.Client { return redis.NewClient(&redis.Options{Addr: address}) }

// kafkaProducer has the settings that the sidecar's has: idempotent, acknowledged by all replicas.
func kafkaProducer(addresses []string) (sarama.SyncProducer, sarama.Client, error) {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent, config.Producer.RequiredAcks, config.Producer.Return.Successes = true, sarama.WaitForAll, true
	config.Producer.Retry.Max = 10
	client, err := sarama.NewClient(addresses, config)
	if err != nil {
		return nil, nil, err
	}
	p, err := sarama.NewSyncProducerFromClient(client)
	return p, client, err
}

// makeTopic makes one as the sidecar would.
func makeTopic(client sarama.Client, topic string) error {
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return err
	}
	err = admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 8, ReplicationFactor: 3}, false)
	if err != nil && !strings.Contains(err.Error(), "already exists") {
		return err
	}
	return client.RefreshMetadata(topic)
}

var producers = map[string]sarama.SyncProducer{} // one for all callers of a process, as in a sidecar

func kafkaPublisher(addresses string, value []byte) (func() error, error) {
	const topic = "bench-direct"
	p := producers[addresses]
	if p == nil {
		var client sarama.Client
		var err error
		if p, client, err = kafkaProducer(strings.Split(addresses, ",")); err != nil {
			return nil, err
		}
		if err := makeTopic(client, topic); err != nil {
			return nil, err
		}
		producers[addresses] = p
	}
	return func() error {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(value)})
		return err
	}, nil
}

// kafkaBus is the client by itself.
type kafkaBus struct {
	addresses []string
	topic     string
	producer  sarama.SyncProducer
}

func (b *kafkaBus) publish(_ context.Context, _ int, events [][]byte) error {
	all := make([]*sarama.ProducerMessage, len(events))
	for i, data := range events {
		all[i] = &sarama.ProducerMessage{Topic: b.topic, Value: sarama.ByteEncoder(data)}
	}
	return b.producer.SendMessages(all)
}

func (b *kafkaBus) subscribe(_ context.Context, got func([]byte), ended func(error)) error {
	p, client, err := kafkaProducer(b.addresses)
	if err != nil {
		return err
	}
	b.producer = p
	if err := makeTopic(client, b.topic); err != nil {
		return err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	partitions, err := client.Partitions(b.topic)
	if err != nil {
		return err
	}
	for _, partition := range partitions {
		one, err := consumer.ConsumePartition(b.topic, partition, sarama.OffsetOldest)
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); { // its leader may not know yet that it is
			time.Sleep(100 * time.Millisecond)
			one, err = consumer.ConsumePartition(b.topic, partition, sarama.OffsetOldest)
		}
		if err != nil {
			return err
		}
		go func() {
			for m := range one.Messages() {
				got(m.Value)
			}
			ended(sarama.ErrClosedClient)
		}()
	}
	return nil
}

// redisBus is the client by itself: a stream with a group of one consumer.
type redisBus struct {
	client *redis.Client
	topic  string
}

func (b *redisBus) publish(ctx context.Context, _ int, events [][]byte) error {
	_, err := b.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, data := range events {
			p.XAdd(ctx, &redis.XAddArgs{Stream: b.topic, Values: []any{"data", data}})
		}
		return nil
	})
	return err
}

func (b *redisBus) subscribe(ctx context.Context, got func([]byte), ended func(error)) error {
	if err := b.client.XGroupCreateMkStream(ctx, b.topic, "bench", "0").Err(); err != nil {
		return err
	}
	go func() {
		for {
			streams, err := b.client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "bench", Consumer: "c", Streams: []string{b.topic, ">"}, Count: 1000, Block: time.Second}).Result()
			if err == redis.Nil {
				continue
			}
			if err != nil {
				ended(err)
				return
			}
			var ids []string
			for _, m := range streams[0].Messages {
				data, _ := m.Values["data"].(string)
				got([]byte(data))
				ids = append(ids, m.ID)
			}
			if err := b.client.XAck(ctx, b.topic, "bench", ids...).Err(); err != nil {
				ended(err)
				return
			}
		}
	}()
	return nil
}
