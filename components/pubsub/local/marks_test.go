package local

import (
	"math/rand/v2"
	"testing"
)

func TestMarksAreASet(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const n = 3 * blockSize
	m, want := newMarks(100), map[uint64]bool{}
	for i := uint64(0); i <= 100; i++ {
		want[i] = true
	}
	for range 4 * n {
		seq := random.Uint64N(n)
		switch random.IntN(2000) {
		case 0:
			to := seq + 1 + random.Uint64N(blockSize*3/2)
			m.setUntil(seq, to)
			for ; seq < to; seq++ {
				want[seq] = true
			}
			if want[m.low+1] {
				t.Fatalf("low is %d, and %d is marked", m.low, m.low+1)
			}
		default:
			m.set(seq)
			want[seq] = true
		}
	}
	for seq := range uint64(n) {
		if m.has(seq) != want[seq] {
			t.Fatalf("%d is marked: %v, want %v (low %d)", seq, m.has(seq), want[seq], m.low)
		}
	}
	for i := range m.blocks {
		if (i+1)*blockSize-1 <= m.low {
			t.Errorf("block %d is below low %d and still there", i, m.low)
		}
		b, err := decodeBlock(blockKey(1, i), m.blocks[i].encode())
		if err != nil || *b != *m.blocks[i] {
			t.Errorf("block %d does not survive its record: %v", i, err)
		}
	}
}

// TestGapsCountAsSettled is about sequences that were never given, and events that retention has removed.
func TestGapsCountAsSettled(t *testing.T) {
	g := &group{marks: newMarks(2), read: 2, ahead: []*entry{{seq: 7}, {seq: 9}}}
	g.passed(7)
	g.marks.set(7)
	if g.marks.low != 7 || g.read != 7 {
		t.Errorf("all up to %d is settled, and up to %d was looked at; want 7", g.marks.low, g.read)
	}
	g.passed(9) // and is not settled
	if g.marks.low != 8 || g.marks.has(9) {
		t.Errorf("all up to %d is settled, want 8", g.marks.low)
	}
}
