package postgresconn

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"time"
)

//go:embed base.sql
var baseSQL string

// base is what all parts stand on.
var base = Part{Name: "base", Steps: []string{baseSQL}}

// LockID is the advisory lock, of a database, for what the words name together. It is the same in all programs.
func LockID(words ...string) int64 {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// LockID is that of something in the client's schema.
func (c *Client) LockID(words ...string) int64 {
	return LockID(append([]string{c.options.Schema}, words...)...)
}

func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// After is the smallest text behind all that begin with prefix, by their bytes; empty if there is none.
func After(prefix string) string {
	runes := []rune(prefix)
	for i := len(runes) - 1; i >= 0; i-- {
		switch r := runes[i]; r {
		case '\U0010FFFF':
			continue
		case '\uD7FF': // what follows are no characters
			runes[i] = '\uE000'
		default:
			runes[i] = r + 1
		}
		return string(runes[:i+1])
	}
	return ""
}
