package db

// Space is the part of the store that belongs to one machine: its keys are not seen by others. Safe for concurrent use.
type Space struct {
	d      *DB
	prefix []byte
}

// Space is the one with a name of [a-z]+.
func (d *DB) Space(name string) *Space { return &Space{d, []byte(name + "/")} }

// Now is the time by the store's clock.
func (s *Space) Now() Time { return s.d.Now() }

func within(prefix, key []byte) []byte {
	return append(append(make([]byte, 0, len(prefix)+len(key)), prefix...), key...)
}

// After is the first key that does not begin with prefix; nil if there is none.
func After(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
