package pubsub

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	// MaxName is the longest name of a topic or a group, in bytes.
	MaxName = 255
	// MaxOrderingKey is the longest ordering key, in bytes.
	MaxOrderingKey = 1 << 10
	// MaxEvent bounds an event with all that belongs to it, in bytes: with what a delivery and a dead letter add it must still
	// fit into a message of 4 MiB, the most that gRPC clients take unless they are told otherwise.
	MaxEvent = 4<<20 - 16<<10
	// MaxMany is how many events one PublishMany may have.
	MaxMany = 1000
)

// Reasons of errors.
const (
	ReasonKeyReused  components.Reason = "IDEMPOTENCY_KEY_REUSED" // the key was used for other content
	ReasonSkipped    components.Reason = "EARLIER_EVENT_FAILED"   // an event before it with the same ordering key failed
	ReasonEventLarge components.Reason = "EVENT_TOO_LARGE"
)

// Reused is the error of a publication whose idempotency key was used for other content.
func Reused() error {
	return components.WithReason(fmt.Errorf("%w: the idempotency key was used for another event", components.ErrExists), ReasonKeyReused)
}

// Skipped is the error of a publication that was left out since one before it with the same ordering key failed.
func Skipped() error {
	return components.WithReason(fmt.Errorf("%w: an event before it with the same ordering key failed", components.ErrPrecondition), ReasonSkipped)
}

func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: %s is empty", components.ErrInvalid, what)
	case len(name) > MaxName:
		return fmt.Errorf("%w: %s is longer than %d bytes", components.ErrInvalid, what, MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %s is not valid UTF-8", components.ErrInvalid, what)
	case strings.IndexFunc(name, unicode.IsControl) >= 0:
		return fmt.Errorf("%w: %s %q has a control character", components.ErrInvalid, what, name)
	}
	return nil
}

func checkEvent(e *Event, idempotencyKey string) error {
	switch {
	case len(e.OrderingKey) > MaxOrderingKey:
		return fmt.Errorf("%w: the ordering key is longer than %d bytes", components.ErrInvalid, MaxOrderingKey)
	case !utf8.ValidString(e.OrderingKey):
		return fmt.Errorf("%w: the ordering key is not valid UTF-8", components.ErrInvalid)
	case full(e) > MaxEvent:
		return components.WithReason(fmt.Errorf("%w: the event takes %d bytes with all that belongs to it, more than %d",
			components.ErrExhausted, full(e), MaxEvent), ReasonEventLarge, "limit", "event")
	}
	for name, value := range e.Metadata {
		if err := checkMetadata(name, value); err != nil {
			return err
		}
	}
	if idempotencyKey == "" {
		return nil
	}
	if err := components.CheckKey(idempotencyKey); err != nil {
		return fmt.Errorf("idempotency key: %w", err)
	}
	return nil
}

// attributes of CloudEvents that have fields of their own, or that the binding writes.
var attributes = []string{"id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data"}

func checkMetadata(name, value string) error {
	if err := checkName("a metadata name", name); err != nil {
		return err
	}
	switch {
	case slices.Contains(attributes, strings.ToLower(name)):
		return fmt.Errorf("%w: %q is an attribute of the event, not a name for its metadata", components.ErrInvalid, name)
	case !utf8.ValidString(value):
		return fmt.Errorf("%w: the metadata %q is not valid UTF-8", components.ErrInvalid, name)
	}
	return nil
}

// full is about what an event takes on the wire.
func full(e *Event) int {
	const lengths = 16 // of fields, and their numbers
	size := 10*lengths + len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) + len(e.ContentType) + len(e.OrderingKey) + len(e.Data)
	for name, value := range e.Metadata {
		size += lengths + len(name) + len(value)
	}
	return size
}

// fingerprint is that of what the application said.
func fingerprint(e *Event) []byte {
	h := sha256.New()
	for _, field := range []string{e.ID, e.Source, e.Type, e.Subject, e.ContentType, e.OrderingKey} {
		add(h, field)
	}
	if !e.Time.IsZero() {
		add(h, e.Time.UTC().Format("2006-01-02T15:04:05.999999999"))
	} else {
		add(h, "")
	}
	for _, name := range slices.Sorted(maps.Keys(e.Metadata)) {
		add(h, name)
		add(h, e.Metadata[name])
	}
	h.Write(e.Data)
	return h.Sum(nil)
}

// add is unambiguous: each field has its length before it.
func add(h hash.Hash, field string) {
	h.Write(binary.AppendUvarint(nil, uint64(len(field))))
	h.Write([]byte(field))
}
