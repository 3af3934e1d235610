package nats

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	library "github.com/nats-io/nats.go"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// Headers beside those of attributes.
const (
	attribute   = "ce-" // begins the headers of attributes
	contentType = "content-type"
	keyHeader   = "outrigger-key"
	printHeader = "outrigger-fingerprint" // of events with an idempotency key
)

// message is an event as NATS has it.
func message(subject string, e *pubsub.Event) *library.Msg {
	m := &library.Msg{Subject: subject, Data: e.Data, Header: make(library.Header, 8+len(e.Metadata))}
	add := func(name, value string) { m.Header[name] = []string{encode(value, true)} }
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
	if e.OrderingKey != "" {
		add(keyHeader, e.OrderingKey)
	}
	for name, value := range e.Metadata {
		add(attribute+encode(name, false), value)
	}
	return m
}

// event reads a message. One of another producer has its place for an id, the time of the server, and its headers as metadata.
func event(m *library.Msg, sequence uint64, at time.Time) pubsub.Event {
	e := pubsub.Event{Data: m.Data}
	known := map[string]*string{attribute + "id": &e.ID, attribute + "source": &e.Source, attribute + "type": &e.Type, attribute + "subject": &e.Subject,
		contentType: &e.ContentType, keyHeader: &e.OrderingKey}
	ours := false
	for name, all := range m.Header {
		low := strings.ToLower(name)
		value := ""
		if len(all) > 0 {
			value = decode(all[0])
		}
		field := known[low]
		switch {
		case low == attribute+"specversion":
			ours = true
		case field != nil && *field == "":
			*field = value
		case low == attribute+"time" && e.Time.IsZero():
			e.Time, _ = time.Parse(time.RFC3339Nano, value)
		case low == printHeader, strings.HasPrefix(low, "nats-"):
		default:
			if e.Metadata == nil {
				e.Metadata = map[string]string{}
			}
			if strings.HasPrefix(low, attribute) {
				name = name[len(attribute):]
			}
			e.Metadata[decode(name)] = value
		}
	}
	if len(e.OrderingKey) > pubsub.MaxOrderingKey {
		e.OrderingKey = e.OrderingKey[:pubsub.MaxOrderingKey/2]
	}
	if !ours && e.Time.IsZero() {
		e.Time = at
	}
	if e.ID == "" {
		e.ID = fmt.Sprintf("%s/%d", m.Subject, sequence)
	}
	return e
}

// encode has text stand in a header: '%' and two hex digits are a byte that must not. Of a name that is more than of a value.
func encode(text string, value bool) string {
	fine := func(i int) bool {
		c := text[i]
		switch {
		case plain(c):
			return true
		case !value:
			return c == '_' || c == '.'
		case c == ' ':
			return i > 0 && i < len(text)-1 // else it is trimmed
		}
		return c > ' ' && c != '%' && c != 0x7f
	}
	n := 0
	for ; n < len(text) && fine(n); n++ {
	}
	if n == len(text) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if fine(i) {
			b.WriteByte(text[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", text[i])
		}
	}
	return b.String()
}

// decode is the inverse of encode. What is no UTF-8 then is replaced.
func decode(text string) string {
	if strings.Contains(text, "%") {
		var b strings.Builder
		for i := 0; i < len(text); i++ {
			if text[i] == '%' && i+2 < len(text) {
				if c, err := hex.DecodeString(text[i+1 : i+3]); err == nil {
					b.WriteByte(c[0])
					i += 2
					continue
				}
			}
			b.WriteByte(text[i])
		}
		text = b.String()
	}
	if utf8.ValidString(text) {
		return text
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
