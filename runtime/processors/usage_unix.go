//go:build unix

package processors

import (
	"time"

	"golang.org/x/sys/unix"
)

func used() (usage, bool) {
	var r unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &r)
	return usage{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), wrote: int64(r.Oublock)}, err == nil
}
