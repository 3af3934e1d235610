package processors

import (
	"os"
	"testing"
	"time"
)

// Linux tells what this process uses and writes; other systems do not tell all of it.
func TestUsed(t *testing.T) {
	before, ok := used()
	if !ok {
		t.Fatal("not measured")
	}
	for end := before.cpu + 20*time.Millisecond; ; {
		if now, _ := used(); now.cpu >= end {
			break
		}
	}
	f, err := os.CreateTemp(".", "written-") // the folder for temporary files may be in memory
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if after, _ := used(); after.wrote == before.wrote {
		t.Error("1 MiB written to a file counts for nothing")
	}
}
