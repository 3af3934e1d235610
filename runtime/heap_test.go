package runtime

import "testing"

func TestSpare(t *testing.T) {
	t.Setenv("GOGC", "")
	s := newSpare()
	for _, c := range []struct{ services, blocks int }{{0, 0}, {511, 0}, {512, 1}, {300, 1}, {255, 0}, {5000, 9}, {10_000, 19}, {9_900, 19}, {0, 0}} {
		if s.fit(c.services); s.bytes() != spareBytes+c.blocks*spareMore {
			t.Errorf("%d services: %d bytes, want %d blocks beside the first", c.services, s.bytes(), c.blocks)
		}
	}
	t.Setenv("GOGC", "100")
	none := newSpare()
	if none.fit(10_000); none.bytes() != 0 {
		t.Error("who sets GOGC does not decide by himself")
	}
}
