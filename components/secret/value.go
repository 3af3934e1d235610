package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Value is a secret and its version.
type Value struct {
	Data    Data
	Version string // opaque; empty where the back end has none. It tells nothing about Data
}

// Data is what must not be seen: however it is printed, logged or marshalled, it reads ***. []byte(d) has the bytes.
type Data []byte

const masked = "***"

func (Data) String() string               { return masked }
func (Data) GoString() string             { return masked }
func (Data) LogValue() slog.Value         { return slog.StringValue(masked) }
func (Data) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Format is for the verbs that String does not cover, such as %x.
func (Data) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, masked) // fmt's own buffer does not fail
}
