package db

import (
	"time"

	"golang.org/x/sys/unix"
)

// Uptime is the time since the machine was started, sleep included: the same for all its processes. It is 0 where the kernel does
// not tell it.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(uptimeClock, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
