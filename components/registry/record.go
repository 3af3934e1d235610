package registry

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	maxName     = 512
	maxMetadata = 64 << 10
	maxNode     = 16 << 10
)

// Check refuses with ErrInvalid what cannot be a service.
func (s Service) Check() error {
	if s.Namespace == "" || s.Name == "" {
		return fmt.Errorf("%w: a service needs a namespace and a name", components.ErrInvalid)
	}
	for _, name := range []string{s.Namespace, s.Group, s.Name} {
		if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return fmt.Errorf("%w: %q is not a name of up to %d bytes without control characters", components.ErrInvalid, name, maxName)
		}
	}
	if len(s.Cluster) > maxName || s.Folder != "" && !isFolder(s.Folder) {
		return fmt.Errorf("%w: %q is no folder, or %q no cluster", components.ErrInvalid, s.Folder, s.Cluster)
	}
	return nil
}

// isFolder tells whether a path begins with a slash and has no empty part, nor a dot or two for one.
func isFolder(path string) bool {
	parts := strings.Split(path, "/")
	return parts[0] == "" && len(parts) > 1 && !slices.ContainsFunc(parts[1:], func(p string) bool { return !isNode(p) })
}

func isNode(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxNode && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || r < ' ' || r == 0x7f
	})
}

// checkNode refuses what cannot be a child of a folder.
func (r Record) checkNode() error {
	if !isNode(r.Node) || len(r.Data) > maxMetadata {
		return fmt.Errorf("%w: %.100q is no name of a node, or has more than %d bytes", components.ErrInvalid, r.Node, maxMetadata)
	}
	return nil
}

// Check refuses with ErrInvalid what cannot be a record.
func (r Record) Check() error {
	if err := r.Service.Check(); err != nil {
		return err
	}
	if r.Folder != "" {
		if err := r.checkNode(); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(r.Address)
	if err != nil || host == "" || strings.ContainsFunc(host, notHost) {
		return fmt.Errorf("%w: address %q is not HOST:PORT", components.ErrInvalid, r.Address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%w: address %q has no port between 1 and 65535", components.ErrInvalid, r.Address)
	}
	if r.Weight < 0 {
		return fmt.Errorf("%w: weight %d is negative", components.ErrInvalid, r.Weight)
	}
	size := 0
	for k, v := range r.Metadata {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("%w: metadata %q is not text with a name", components.ErrInvalid, k)
		}
		size += len(k) + len(v)
	}
	if size > maxMetadata {
		return fmt.Errorf("%w: %d bytes of metadata are more than %d", components.ErrInvalid, size, maxMetadata)
	}
	return nil
}

func notHost(r rune) bool { return r <= ' ' || r == '/' || r == utf8.RuneError || unicode.IsControl(r) }

func (r Record) clone() Record {
	r.Metadata = maps.Clone(r.Metadata)
	return r
}

// orderly sorts records by address, keeps one of each, and drops what is not a record: others write into a registry too. In a folder
// their nodes tell records apart.
func orderly(s Service, records []Record) []Record {
	check := Record.Check
	if s.Folder != "" {
		check = Record.checkNode
	}
	good := make([]Record, 0, len(records))
	for _, r := range records {
		if r.Service == s && check(r) == nil {
			good = append(good, r.clone())
		}
	}
	slices.SortFunc(good, compare)
	return slices.CompactFunc(good, func(a, b Record) bool { return a.Address == b.Address && a.Node == b.Node })
}

// Same tells whether two records are equal in all that they say.
func (r Record) Same(other Record) bool { return compare(r, other) == 0 && r.Service == other.Service }

func compare(a, b Record) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Group, b.Group),
		cmp.Compare(a.Address, b.Address), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Data, b.Data), cmp.Compare(a.Weight, b.Weight), compareMetadata(a.Metadata, b.Metadata))
}

// compareMetadata gives the same order each time, so that of two records with one address always the same is kept.
func compareMetadata(a, b map[string]string) int {
	if c := slices.Compare(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))); c != 0 {
		return c
	}
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if c := cmp.Compare(a[k], b[k]); c != 0 {
			return c
		}
	}
	return 0
}

// digest tells lists of one service's records apart.
func digest(records []Record) [sha256.Size]byte {
	var b []byte
	put := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for _, r := range records {
		put(r.Address)
		put(r.Node)
		put(r.Data)
		b = binary.AppendVarint(b, int64(r.Weight))
		b = binary.AppendUvarint(b, uint64(len(r.Metadata)))
		for _, k := range slices.Sorted(maps.Keys(r.Metadata)) {
			put(k)
			put(r.Metadata[k])
		}
	}
	return sha256.Sum256(b)
}
