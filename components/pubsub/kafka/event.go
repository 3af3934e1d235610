package kafka

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

const (
	attribute   = "ce_" // begins the headers of attributes
	contentType = "content-type"
)

// message is an event as Kafka has it.
func message(topic string, e *pubsub.Event) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(e.Data), Headers: make([]sarama.RecordHeader, 0, 7+len(e.Metadata))}
	if e.OrderingKey != "" {
		m.Key = sarama.StringEncoder(e.OrderingKey)
	}
	if e.Data == nil {
		m.Value = sarama.ByteEncoder{} // no value at all would be a deletion
	}
	add := func(name, value string) {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	add(attribute+"specversion", "1.0")
	add(attribute+"id", e.ID)
	add(attribute+"source", e.Source)
	add(attribute+"type", e.Type)
	if e.Subject != "" {
		add(attribute+"subject", e.Subject)
	}
	if !e.Time.IsZero() {
		add(attribute+"time", e.Time.UTC().Format(time.RFC3339Nano))
	}
	if e.ContentType != "" {
		add(contentType, e.ContentType)
	}
	for name, value := range e.Metadata {
		add(attribute+name, value)
	}
	return m
}

// event reads a message. One of another producer has its place for an id, its own time, and its headers as metadata.
func event(m *sarama.ConsumerMessage) pubsub.Event {
	e := pubsub.Event{Data: m.Value, OrderingKey: text(m.Key)}
	if !utf8.Valid(m.Key) || len(m.Key) > pubsub.MaxOrderingKey {
		e.OrderingKey = hex.EncodeToString(m.Key[:min(len(m.Key), pubsub.MaxOrderingKey/2)])
	}
	known := map[string]*string{"id": &e.ID, "source": &e.Source, "type": &e.Type, "subject": &e.Subject}
	ours := false
	for _, h := range m.Headers {
		name, value := text(h.Key), text(h.Value)
		own, isAttribute := strings.CutPrefix(name, attribute)
		field := known[own]
		switch {
		case isAttribute && own == "specversion":
			ours = true
		case isAttribute && field != nil && *field == "":
			*field = value
		case isAttribute && own == "time" && e.Time.IsZero():
			e.Time, _ = time.Parse(time.RFC3339Nano, value)
		case name == contentType && e.ContentType == "":
			e.ContentType = value
		default:
			if e.Metadata == nil {
				e.Metadata = map[string]string{}
			}
			if isAttribute {
				name = own
			}
			e.Metadata[name] = value
		}
	}
	if !ours && e.Time.IsZero() {
		e.Time = m.Timestamp
	}
	if e.ID == "" {
		e.ID = fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset)
	}
	return e
}

func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
