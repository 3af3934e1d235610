package fastgrpc

import (
	"bytes"
	"runtime"
	"testing"

	"google.golang.org/grpc"
)

// TestCallsAreForgotten makes large calls on one connection: their bodies come in several frames, and nothing of a call may
// be kept by the ones after it.
func TestCallsAreForgotten(t *testing.T) {
	_, _, cc, _ := start(t, "tcp", nil)
	for _, method := range []string{"Inline", "Block"} {
		t.Run(method, func(t *testing.T) { forgotten(t, cc, method) })
	}
}

func forgotten(t *testing.T, cc *grpc.ClientConn, method string) {
	body := bytes.Repeat([]byte("x"), 48<<10)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	calls := func(n int) {
		for range n {
			if _, err := unary(do(), cc, method, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	calls(200)
	before := heap()
	calls(2000) // 94 MiB
	if after := heap(); after > before+16<<20 {
		t.Fatalf("the heap grew by %d KiB", (after-before)>>10)
	}
}
