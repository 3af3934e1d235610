package kafka

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// The metadata of a committed offset begin so, and are base64 of the progress of its partition: of format 1 as it is, or of that deflated, or
// where that stands.
const (
	plain     = "o1:"
	deflated  = "o1z:"
	elsewhere = "o1@"
)

func metadata(p *parts.Progress) string {
	b, small := p.Encode()
	kind := plain
	if small {
		kind = deflated
	}
	return kind + base64.StdEncoding.EncodeToString(b)
}

// progress reads metadata of a committed offset. Those of others mean nothing: all before the offset is settled then.
func progress(offset int64, metadata string) (*parts.Progress, error) {
	text, small := strings.CutPrefix(metadata, deflated)
	if !small {
		var ours bool
		if text, ours = strings.CutPrefix(metadata, plain); !ours {
			return parts.Begin(offset), nil
		}
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the group's metadata cannot be read: %w", err)
	}
	return parts.Decode(offset, raw, small)
}
