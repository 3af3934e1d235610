package local

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// blockSize is how many events have their marks in one record.
const blockSize = 4096

type block [blockSize / 64]uint64

// marks are the events of a topic that a group has settled: all up to low, and those with a bit.
type marks struct {
	low    uint64
	blocks map[uint64]*block // that reach above low
	dirty  map[uint64]bool   // changed since they were kept; those that are not in blocks are to be removed
	kept   map[uint64]bool   // there is a record of them
}

func newMarks(low uint64) marks {
	return marks{low: low, blocks: map[uint64]*block{}, dirty: map[uint64]bool{}, kept: map[uint64]bool{}}
}

func (m *marks) has(seq uint64) bool {
	if seq <= m.low {
		return true
	}
	b := m.blocks[seq/blockSize]
	return b != nil && b[seq%blockSize/64]&(1<<(seq%64)) != 0
}

// set marks an event.
func (m *marks) set(seq uint64) {
	switch {
	case seq <= m.low:
		return
	case seq == m.low+1 && m.blocks[seq/blockSize] == nil: // in order: there is nothing to note
		m.low = seq
		m.advance()
		return
	}
	m.blockOf(seq)[seq%blockSize/64] |= 1 << (seq % 64)
	m.dirty[seq/blockSize] = true
	if seq == m.low+1 {
		m.advance()
	}
}

func (m *marks) blockOf(seq uint64) *block {
	b := m.blocks[seq/blockSize]
	if b == nil {
		b = &block{}
		m.blocks[seq/blockSize] = b
	}
	return b
}

// setUntil marks all from from to below to.
func (m *marks) setUntil(from, to uint64) {
	if from <= m.low+1 {
		m.raise(to - 1)
		return
	}
	for seq := from; seq < to; {
		if seq%blockSize != 0 || to-seq < blockSize {
			m.set(seq)
			seq++
			continue
		}
		b := m.blockOf(seq)
		for i := range b {
			b[i] = ^uint64(0)
		}
		m.dirty[seq/blockSize] = true
		seq += blockSize
	}
}

// raise marks all up to seq.
func (m *marks) raise(seq uint64) {
	if seq <= m.low {
		return
	}
	m.low = seq
	m.advance()
}

// advance moves low over what is marked above it, and forgets blocks below.
func (m *marks) advance() {
	if len(m.blocks) == 0 && len(m.kept) == 0 {
		return
	}
	for {
		next := m.low + 1
		b := m.blocks[next/blockSize]
		if b == nil {
			break
		}
		run := uint64(bits.TrailingZeros64(^(b[next%blockSize/64] >> (next % 64))))
		run = min(run, 64-next%64)
		if run == 0 {
			break
		}
		m.low += run
	}
	for n := range m.blocks {
		if (n+1)*blockSize-1 <= m.low {
			delete(m.blocks, n)
			delete(m.dirty, n)
			if m.kept[n] {
				m.dirty[n] = true
			}
		}
	}
}

func (b *block) encode() []byte {
	out := make([]byte, 1, 1+8*len(b))
	out[0] = format
	for _, w := range b {
		out = binary.BigEndian.AppendUint64(out, w)
	}
	return out
}

func decodeBlock(key, record []byte) (*block, error) {
	b := &block{}
	if len(record) != 1+8*len(b) || record[0] != format {
		return nil, unreadable(key, errors.New("it is no block of marks"))
	}
	for i := range b {
		b[i] = binary.BigEndian.Uint64(record[1+8*i:])
	}
	return b, nil
}
