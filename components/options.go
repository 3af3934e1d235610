package components

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// Secret is a text that prints, logs and marshals as ***. Reveal gives it to the client library that needs it.
type Secret string

const masked = "***"

// Reveal answers the text itself.
func (s Secret) Reveal() string { return string(s) }

// String is what is printed: ***.
func (s Secret) String() string { return masked }

// LogValue is what a log shows: ***.
func (s Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText is what JSON and YAML get: ***.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Format is for all verbs: without it one that does not fit, such as %d, would show the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

// Size is a number of bytes. In configuration it is written with its unit: 512B, 64KiB, 10MiB, 2GiB (or kB, MB, GB).
type Size int64

var units = []struct {
	name string
	size Size
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}}

// ParseSize reads what Size is written as. Zero needs no unit.
func ParseSize(text string) (Size, error) {
	number, factor := text, Size(0)
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.name); ok {
			number, factor = strings.TrimSpace(n), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a size (write 64MiB, 512KiB, 100B)", text)
	case n < 0:
		return 0, fmt.Errorf("size %q is negative", text)
	case n == 0:
		return 0, nil
	case factor == 0:
		return 0, fmt.Errorf("size %q has no unit (write %sB, %sKiB, %sMiB)", text, number, number, number)
	case n > int64(^uint64(0)>>1)/int64(factor):
		return 0, fmt.Errorf("size %q is too large", text)
	}
	return Size(n) * factor, nil
}

// UnmarshalText reads what ParseSize does.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// MarshalText writes what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes a size in the largest unit that it is a whole number of: 64MiB, 1000B.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; s >= u.size && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}
