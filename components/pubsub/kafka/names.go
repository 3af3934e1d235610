package kafka

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// maxName is the longest name of a topic that Kafka takes.
const maxName = 249

func checkPrefix(prefix string) error {
	if len(prefix) > 64 || escape(prefix) != prefix {
		return fmt.Errorf("prefix: %q has more than letters, digits, '-' and '.', or more than 64 bytes", prefix)
	}
	return nil
}

// topicName is Kafka's name of a topic. Two topics have two names, and those differ in more than '.' and '_', which Kafka would not
// allow.
func topicName(prefix string, t pubsub.Topic) string {
	name := prefix + t.Namespace + "." + escape(t.Name)
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(t.Name))
	end := "_h" + hex.EncodeToString(sum[:16]) // no escape begins so
	return name[:maxName-len(end)] + end
}

func groupName(topic, group string) string { return topic + ":" + escape(group) }

// escape leaves letters, digits and '-' as they are, and '.' where no two hex digits follow: '_' and two of those are any other byte.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-', c == '.' && !hexAt(name, i+1):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// hexAt tells whether two hex digits are at i.
func hexAt(name string, i int) bool {
	if len(name) < i+2 {
		return false
	}
	_, err := hex.DecodeString(name[i : i+2])
	return err == nil
}

// unescape is the inverse of escape.
func unescape(escaped string) string {
	var b strings.Builder
	for i := 0; i < len(escaped); i++ {
		if escaped[i] == '_' && hexAt(escaped, i+1) {
			c, _ := hex.DecodeString(escaped[i+1 : i+3])
			b.Write(c)
			i += 2
			continue
		}
		b.WriteByte(escaped[i])
	}
	return b.String()
}
