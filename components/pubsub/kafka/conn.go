package kafka

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// version is that of the protocol which is spoken: brokers since 2.8, to 4 and beyond, know it.
var version = sarama.V2_8_0_0

const (
	// smallBatch is what a message and a batch may have on any topic: brokers take a little more than 1 MB unless they are told otherwise.
	smallBatch = 1_000_000
	// largeBatch is for topics that are made here, and have room for the largest event.
	largeBatch = pubsub.MaxEvent + 256<<10
)

// conn is what instances with the same options share: connections for publishing, and others for everything that must not wait behind
// that. Reading has its own, group by group.
type conn struct {
	opts   Options
	where  string // for errors
	config func() *sarama.Config
	client sarama.Client
	small  *producer
	big    *producer

	newConsumer func() (sarama.Consumer, error)

	mu     sync.Mutex
	topics map[string]int32 // partitions
}

// key is the same for equal connections only. It holds no secret that could be read.
func (o Options) key() any {
	secret := sha256.Sum256([]byte(o.SASL.Password.Reveal()))
	return struct{ kind, options string }{"kafka", fmt.Sprintf("%q %+v %+v %x %s %v %d %d %s", o.Addresses, o.TLS, o.SASL, secret, o.Timeout, o.Create,
		o.Partitions, o.Replicas, o.Retention)}
}

func (o Options) config() (*sarama.Config, error) {
	tls, err := o.TLS.Config()
	if err != nil {
		return nil, err
	}
	c := sarama.NewConfig()
	c.Version, c.ClientID = version, "outrigger"
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = o.Timeout, o.Timeout, o.Timeout
	c.Net.TLS.Enable, c.Net.TLS.Config = tls != nil, tls
	if o.SASL.Mechanism != "" {
		c.Net.SASL.Enable, c.Net.SASL.Mechanism = true, sarama.SASLMechanism(o.SASL.Mechanism)
		c.Net.SASL.User, c.Net.SASL.Password = o.SASL.User, o.SASL.Password.Reveal()
		c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient {
			h := map[string]func() hash.Hash{"SCRAM-SHA-256": sha256.New, "SCRAM-SHA-512": sha512.New}[o.SASL.Mechanism]
			return &scram{hash: h}
		}
	}
	c.Metadata.AllowAutoTopicCreation, c.Metadata.Full = false, false
	c.Metadata.Retry.Max, c.Metadata.Retry.Backoff = 1, 100*time.Millisecond
	c.Metadata.RefreshFrequency = time.Minute
	c.Metadata.Timeout = o.Timeout
	c.Admin.Timeout = o.Timeout
	return c, nil
}

// dial opens the connections, after a broker has answered.
func (o Options) dial(ctx context.Context) (*conn, error) {
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	c := &conn{opts: o, where: "kafka " + strings.Join(o.Addresses, ","), topics: map[string]int32{}}
	c.config = func() *sarama.Config { copied := *config; return &copied }
	c.newConsumer = c.consumer
	if err := c.probe(ctx); err != nil {
		return nil, c.failed(ctx, err)
	}
	if c.client, err = backend.Within(ctx, func() (sarama.Client, error) { return sarama.NewClient(o.Addresses, c.config()) }, sarama.Client.Close); err != nil {
		return nil, c.failed(ctx, err)
	}
	if c.small, err = c.produce(ctx, smallBatch); err == nil {
		c.big, err = c.produce(ctx, largeBatch)
	}
	if err != nil {
		c.close()
		return nil, c.failed(ctx, err)
	}
	return c, nil
}

// probe finds one broker that answers, or says what each has against it: the library's client does not tell that of all.
func (c *conn) probe(ctx context.Context) error {
	answers := make(chan error, len(c.opts.Addresses))
	for _, address := range c.opts.Addresses {
		go func() {
			b := sarama.NewBroker(address)
			if err := b.Open(c.config()); err != nil {
				answers <- err
				return
			}
			_, err := b.GetMetadata(sarama.NewMetadataRequest(version, []string{}))
			_ = b.Close()
			answers <- err
		}()
	}
	var errs []error
	for range c.opts.Addresses {
		select {
		case err := <-answers:
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

func (c *conn) close() {
	for _, p := range []*producer{c.small, c.big} {
		if p != nil {
			p.close()
		}
	}
	_ = c.client.Close()
}

func (c *conn) check(ctx context.Context) error {
	_, err := backend.Within(ctx, func() (*sarama.Broker, error) { return c.client.RefreshController() }, func(*sarama.Broker) error { return nil })
	if errors.Is(err, sarama.ErrNoTopicsToUpdateMetadata) { // the client asks for those that it has used, and takes none for a fault
		err = c.probe(ctx)
	}
	return c.failed(ctx, err)
}

var denials = []sarama.KError{sarama.ErrSASLAuthenticationFailed, sarama.ErrTopicAuthorizationFailed, sarama.ErrGroupAuthorizationFailed,
	sarama.ErrClusterAuthorizationFailed, sarama.ErrUnsupportedSASLMechanism, sarama.ErrIllegalSASLState}

func denied(err error) bool {
	for _, one := range denials {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// failed says of what came to nothing what its caller can do.
func (c *conn) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, components.ErrUnavailable), errors.Is(err, components.ErrPrecondition): // says so already
		return err
	case denied(err):
		return backend.Refused(c.where, err)
	}
	return backend.Unreachable(ctx, c.where, err)
}

// partitions answers how many a topic has, and makes it if it is not there.
func (c *conn) partitions(ctx context.Context, topic string) (int32, error) {
	return c.made(ctx, topic, nil)
}

// made is partitions of a topic that is made with these settings.
func (c *conn) made(ctx context.Context, topic string, settings map[string]string) (int32, error) {
	c.mu.Lock()
	n := c.topics[topic]
	c.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	n, err := backend.Within(ctx, func() (int32, error) { return c.look(topic, settings) }, func(int32) error { return nil })
	if err != nil {
		return 0, c.failed(ctx, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topics[topic] = n
	return n, nil
}

// look finds a topic, all of whose partitions have leaders.
func (c *conn) look(topic string, settings map[string]string) (int32, error) {
	made := false
	wait := backend.Backoff{First: 10 * time.Millisecond, Most: 200 * time.Millisecond}
	for end := time.Now().Add(3 * c.opts.Timeout); ; {
		err := c.client.RefreshMetadata(topic)
		if err == nil {
			all, err := c.client.Partitions(topic)
			if err == nil && len(all) > 0 {
				return int32(len(all)), nil
			}
		}
		missing := errors.Is(err, sarama.ErrUnknownTopicOrPartition)
		if missing && !c.opts.Create {
			return 0, fmt.Errorf("topic %s: %w", topic, err)
		}
		if missing && !made {
			if err := c.create(topic, settings); err != nil {
				return 0, fmt.Errorf("make topic %s: %w", topic, err)
			}
			made = true
		}
		if denied(err) || time.Now().After(end) {
			return 0, fmt.Errorf("topic %s: %w", topic, err)
		}
		if err := wait.Wait(context.Background()); err != nil {
			return 0, err
		}
	}
}

// create makes a topic, unless somebody else does.
func (c *conn) create(topic string, settings map[string]string) error {
	entries := map[string]*string{}
	set := func(name, value string) { entries[name] = &value }
	set("max.message.bytes", fmt.Sprint(largeBatch))
	if c.opts.Retention > 0 {
		set("retention.ms", fmt.Sprint(c.opts.Retention.Milliseconds()))
	}
	for name, value := range settings {
		set(name, value)
	}
	detail := &sarama.TopicDetail{NumPartitions: int32(c.opts.Partitions), ReplicationFactor: int16(c.opts.Replicas), ConfigEntries: entries}
	if c.opts.Partitions == 0 {
		detail.NumPartitions = -1
	}
	if c.opts.Replicas == 0 {
		detail.ReplicationFactor = -1
	}
	admin, err := sarama.NewClusterAdminFromClient(c.client)
	if err != nil {
		return err
	}
	if err := admin.CreateTopic(topic, detail, false); err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return err
	}
	return nil
}
