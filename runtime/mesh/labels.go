package mesh

import (
	"encoding/binary"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Labels are an instance's, by their names. They are one string, not a map: of 100,000 instances the garbage collector has less to look at by
// a dozen pointers each, and instances can be compared. The empty string has none. It is made by LabelsOf.
type Labels string

// LabelsOf makes labels of a map, which stays the caller's.
func LabelsOf(all map[string]string) Labels {
	if len(all) == 0 {
		return ""
	}
	size := 0
	for name, value := range all {
		size += len(name) + len(value) + 2*binary.MaxVarintLen32
	}
	b := make([]byte, 0, size)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
		b = append(binary.AppendUvarint(b, uint64(len(all[name]))), all[name]...)
	}
	return Labels(b)
}

// next takes the first text off.
func (l Labels) next() (text string, rest Labels) {
	n, shift := 0, 0
	for i := range len(l) {
		if n |= int(l[i]&0x7f) << shift; l[i] < 0x80 {
			return string(l[i+1 : i+1+n]), l[i+1+n:]
		}
		shift += 7
	}
	return "", ""
}

// All are the labels in the order of their names.
func (l Labels) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for l != "" {
			var name, value string
			name, l = l.next()
			if value, l = l.next(); !yield(name, value) {
				return
			}
		}
	}
}

// Get is the value of a label, "" if there is none of that name.
func (l Labels) Get(name string) string {
	for n, value := range l.All() {
		if n == name {
			return value
		}
	}
	return ""
}

// Map is nil if there are no labels.
func (l Labels) Map() map[string]string {
	if l == "" {
		return nil
	}
	return maps.Collect(l.All())
}

// String is LABEL=VALUE,... for people.
func (l Labels) String() string {
	var all []string
	for name, value := range l.All() {
		all = append(all, name+"="+value)
	}
	return strings.Join(all, ",")
}

// MarshalJSON writes an object.
func (l Labels) MarshalJSON() ([]byte, error) { return json.Marshal(l.Map()) }

// UnmarshalJSON reads what MarshalJSON has written.
func (l *Labels) UnmarshalJSON(b []byte) error {
	var all map[string]string
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*l = LabelsOf(all)
	return nil
}
