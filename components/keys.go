package components

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxKey is the longest key that a front takes, in bytes.
const MaxKey = 1 << 10

// CheckKey refuses with ErrInvalid what cannot be a key: nothing at all, more than MaxKey bytes, NUL, invalid UTF-8.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: the key is empty", ErrInvalid)
	}
	return CheckPrefix(key)
}

// CheckPrefix is CheckKey for the beginning of keys, which may be empty.
func CheckPrefix(prefix string) error {
	switch {
	case len(prefix) > MaxKey:
		return fmt.Errorf("%w: the key is longer than %d bytes", ErrInvalid, MaxKey)
	case !utf8.ValidString(prefix):
		return fmt.Errorf("%w: the key is not valid UTF-8", ErrInvalid)
	case strings.IndexByte(prefix, 0) >= 0:
		return fmt.Errorf("%w: the key has a NUL byte", ErrInvalid)
	}
	return nil
}
