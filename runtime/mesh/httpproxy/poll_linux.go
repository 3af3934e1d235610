package httpproxy

import "golang.org/x/sys/unix"

const rawSockets = true

// hungUp says if the peer of a socket is gone; half: it may have closed its side and still wait.
func hungUp(fd uintptr, half bool) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if half {
		p[0].Events = 0
	}
	n, _ := unix.Poll(p, 0)
	return n > 0
}
