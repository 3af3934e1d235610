package nats

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// maxName is the longest name of a stream: it is that of a folder, too.
const maxName = 200

func checkPrefix(prefix string) error {
	if prefix == "" || len(prefix) > 32 || escape(prefix) != prefix {
		return fmt.Errorf("prefix: %q has more than letters, digits and '-', or is not from 1 to 32 bytes", prefix)
	}
	return nil
}

// streamName and subject are those of a topic. A namespace has no '_'.
func streamName(prefix string, t pubsub.Topic) string {
	return prefix + "_" + t.Namespace + "_" + short(t.Name, maxName-len(prefix)-len(t.Namespace)-2)
}

func subject(prefix string, t pubsub.Topic) string {
	return prefix + "." + t.Namespace + "." + short(t.Name, maxName-len(prefix)-len(t.Namespace)-2)
}

func groupsName(prefix string) string { return prefix + "-groups" }

// groupSubject is what the subjects of a group begin with.
func groupSubject(prefix string, t pubsub.Topic, group string) string {
	sum := sha256.Sum256([]byte(t.Namespace + "\x00" + t.Name + "\x00" + group))
	return groupsName(prefix) + "." + hex.EncodeToString(sum[:16])
}

// short is a name, escaped, of so many bytes at the most.
func short(name string, most int) string {
	escaped := escape(name)
	if len(escaped) <= most {
		return escaped
	}
	sum := sha256.Sum256([]byte(name))
	end := "_h" + hex.EncodeToString(sum[:16]) // no escape begins so
	return escaped[:most-len(end)] + end
}

// escape leaves letters, digits and '-' as they are: '_' and two hex digits are any other byte.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

// partOf is the part that an ordering key belongs to. It decides what is stored where, so it must not change.
func partOf(key string, parts int32) int32 {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int32(h.Sum32() % uint32(parts))
}
