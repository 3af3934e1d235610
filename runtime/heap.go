package runtime

import (
	"os"
	"sync"
)

const (
	spareBytes    = 32 << 20 // what the heap may grow by between two collections at least
	spareServices = 512      // more services that are watched let it grow by spareMore each time
	spareMore     = 8 << 20
)

// spare keeps the collector from running many times a second for a heap of a few MiB: the collector goes by the size of the live
// heap, so it is shown one that is larger by memory that nobody touches, which is therefore hardly ever resident. What is more on
// a busy sidecar is garbage of as many bytes. Of each watched service the collector has stacks to look at, which takes it as long as ten
// times their memory on the heap would, and which it does not go by: so there is more of it where there are thousands. Who sets GOGC decides by himself.
type spare struct {
	mu     sync.Mutex
	first  []byte
	blocks [][]byte
}

func newSpare() *spare {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	return &spare{first: make([]byte, spareBytes)}
}

// fit is told how many services are watched. Half a block fewer than make one more do not take it away again.
func (s *spare) fit(services int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.blocks) < services/spareServices {
		s.blocks = append(s.blocks, make([]byte, spareMore))
	}
	if want := (services + spareServices/2) / spareServices; len(s.blocks) > want {
		clear(s.blocks[want:])
		s.blocks = s.blocks[:want]
	}
}

// bytes is how much there is.
func (s *spare) bytes() int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.first) + len(s.blocks)*spareMore
}
