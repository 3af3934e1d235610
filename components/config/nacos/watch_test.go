package nacos

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

// TestAServerThatLagsBehind tells nothing that was told before, nor what another had replaced or removed.
func TestAServerThatLagsBehind(t *testing.T) {
	w := &watch{told: map[string]mark{}}
	for i, step := range []struct {
		sum      string
		modified int64 // 0: it is absent
		want     string
	}{
		{"a", 1, "a"}, {"b", 3, "b"}, {"a", 1, ""}, {"b", 3, ""}, {"c", 4, "c"}, {"", 0, "gone"}, {"", 0, ""}, {"b", 3, ""}, {"a", 5, "a"}, {"a", 6, "a"},
	} {
		got := ""
		c, is := w.change("ns/k", state{nacosconn.ConfigAnswer{Content: step.sum, MD5: step.sum, Modified: step.modified}, step.modified != 0}, false)
		if is && c.Deleted {
			got = "gone"
		} else if is {
			got = string(c.Item.Value)
		}
		if got != step.want {
			t.Errorf("step %d: told %q, want %q", i, got, step.want)
		}
	}
}
