package runtime

import (
	"os"
	"runtime"
)

// spareBytes is what the heap may grow by between two collections at least.
const spareBytes = 32 << 20

// spareHeap keeps the collector from running many times a second for a heap of a few MiB: the collector goes by the size of
// the live heap, so it is shown one that is larger by memory that nobody touches, which is therefore never resident. What is
// more on a busy sidecar is garbage of up to spareBytes. Who sets GOGC decides by himself.
func spareHeap() (release func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	spare := make([]byte, spareBytes)
	return func() { runtime.KeepAlive(spare) }
}
