package etcd

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/outrigger-mesh/outrigger/components/config"
)

// magic begins the values that have a header: JSON, and the end of the line.
const magic = "\x00outrigger 1 "

// header is what an item has besides its value.
type header struct {
	ContentType string            `json:"content_type,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// pack is what etcd keeps of an item.
func pack(item config.Item) string {
	value := string(item.Value)
	if item.ContentType == "" && len(item.Metadata) == 0 && !strings.HasPrefix(value, magic) {
		return value
	}
	h, err := json.Marshal(header{item.ContentType, item.Metadata})
	if err != nil {
		panic(err) // strings marshal
	}
	return magic + string(h) + "\n" + value
}

// unpack reads what pack or an operator has written.
func unpack(value []byte, item *config.Item) error {
	text, ok := strings.CutPrefix(string(value), magic)
	if !ok {
		item.Value = value
		return nil
	}
	line, rest, ok := strings.Cut(text, "\n")
	if !ok {
		return errors.New("its header has no end")
	}
	var h header
	if err := json.Unmarshal([]byte(line), &h); err != nil {
		return err
	}
	item.Value, item.ContentType, item.Metadata = []byte(rest), h.ContentType, h.Metadata
	return nil
}
