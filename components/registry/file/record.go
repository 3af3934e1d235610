package file

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

const (
	format    = 1
	maxRecord = 1 << 20 // bytes of a file
)

// entry is a record and when it was made, in nanoseconds: of two for one address the later one counts.
type entry struct {
	registry.Record
	since int64
}

// stored is what is in a file.
type stored struct {
	Format    int               `json:"format"`
	Namespace string            `json:"namespace"`
	Group     string            `json:"group,omitempty"`
	Name      string            `json:"name"`
	Address   string            `json:"address"`
	Weight    int               `json:"weight"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Since     int64             `json:"since_unix_nanos"`
}

func encode(e entry) ([]byte, error) {
	data, err := json.MarshalIndent(stored{format, e.Namespace, e.Group, e.Name, e.Address, e.Weight, e.Metadata, e.since}, "", "  ")
	return append(data, '\n'), err
}

// decode reads a file; its name must be that of what is in it.
func decode(name string, data []byte) (entry, error) {
	var in stored
	if err := json.Unmarshal(data, &in); err != nil {
		return entry{}, fmt.Errorf("%w: %w", components.ErrDamaged, err)
	}
	if in.Format != format {
		return entry{}, fmt.Errorf("%w: format %d is not %d", components.ErrDamaged, in.Format, format)
	}
	e := entry{since: in.Since, Record: registry.Record{Address: in.Address, Weight: in.Weight, Metadata: in.Metadata,
		Service: registry.Service{Namespace: in.Namespace, Group: in.Group, Name: in.Name}}}
	if err := e.Check(); err != nil {
		return entry{}, fmt.Errorf("%w: %w", components.ErrDamaged, err)
	}
	if fileName(e.Record, ownerOf(name)) != name {
		return entry{}, fmt.Errorf("%w: the record belongs in another file", components.ErrDamaged)
	}
	return e, nil
}

// fileName is that of one owner's record of a service at an address.
func fileName(r registry.Record, owner string) string {
	return label(r.Name) + "-" + digest(r.Namespace, r.Group, r.Name) + "." + digest(r.Address) + "." + owner + ".json"
}

// label is what people recognize a name by.
func label(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, name)
	return plain[:min(len(plain), 40)]
}

func digest(parts ...string) string {
	text, _ := json.Marshal(parts) // strings always marshal; "a","bc" and "ab","c" differ
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:10])
}

// ownerOf is the owner in a file's name, "" if it is no record's name.
func ownerOf(name string) string {
	parts := strings.Split(name, ".")
	if len(parts) != 4 || parts[3] != "json" || strings.ContainsAny(parts[2], "/\x00") {
		return ""
	}
	return parts[2]
}

var errName = errors.New("not the name of a record's file")

func same(a, b []registry.Record) bool {
	return slices.EqualFunc(a, b, func(a, b registry.Record) bool {
		return a.Service == b.Service && a.Address == b.Address && a.Weight == b.Weight && maps.Equal(a.Metadata, b.Metadata)
	})
}

func clone(records []registry.Record) []registry.Record {
	out := slices.Clone(records)
	for i := range out {
		out[i].Metadata = maps.Clone(out[i].Metadata)
	}
	return out
}
