package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"

	"google.golang.org/grpc/codes"
)

// What a message is refused with: it has more bytes than max_message_bytes, and the metadata name hop and limit; or it is
// none of the method's.
const (
	ReasonTooLarge  components.Reason = "MESSAGE_TOO_LARGE"
	ReasonMalformed components.Reason = "MALFORMED_REQUEST"
)

// TooLarge is the error for a request or an answer of more bytes than max_message_bytes allows at a hop.
func TooLarge(hop, what string, limit int) error {
	err := fmt.Errorf("%w: the %s is larger than max_message_bytes (%s) at hop %s",
		components.ErrExhausted, what, components.Size(limit), hop)
	return components.WithReason(err, ReasonTooLarge, "hop", hop, "limit", "max_message_bytes", "max", strconv.Itoa(limit))
}

// TextTooLarge is the error for a request whose JSON is longer than TextLimit.
func TextTooLarge(hop, what string, limit int) error {
	err := fmt.Errorf("%w: the JSON of the %s is longer than twice max_message_bytes (%s) at hop %s",
		components.ErrExhausted, what, components.Size(limit), hop)
	return components.WithReason(err, ReasonTooLarge, "hop", hop, "limit", "max_message_bytes", "max", strconv.Itoa(limit))
}

// TextLimit is how many bytes a message may have as JSON, which makes 4 characters of 3 bytes of data: values that fit into a message
// fit into its JSON, too; of text whose characters are mostly written as escapes less does.
func TextLimit(limit int) int { return 2 * limit }

// Malformed is the error for a request that cannot be decoded: the caller's fault, whatever an engine calls it.
func Malformed(why string) error {
	err := fmt.Errorf("%w: the request is not a message of this method: %s", components.ErrInvalid, why)
	return components.WithReason(err, ReasonMalformed)
}

// FromEngine is the error that grpc-go means by a status which it sends by itself, before any handler can change it; nil if
// the status is none of those.
func FromEngine(code codes.Code, text, hop string, limit int) error {
	switch {
	case code == codes.ResourceExhausted && strings.HasPrefix(text, "grpc: received message"):
		return TooLarge(hop, "request", limit)
	case code == codes.Internal && strings.HasPrefix(text, "grpc: failed to unmarshal"):
		return Malformed(strings.TrimPrefix(text, "grpc: "))
	case code == codes.DeadlineExceeded:
		return context.DeadlineExceeded // the engine was before the method, or never came to it
	}
	return nil
}
