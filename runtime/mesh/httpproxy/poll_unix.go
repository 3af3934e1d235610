//go:build unix && !linux

package httpproxy

import "golang.org/x/sys/unix"

const rawSockets = true

// hungUp says if the peer of a socket is gone; half: it may have closed its side and still wait. Behind bytes that are not read
// yet an end is not seen.
func hungUp(fd uintptr, half bool) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(p, 0); n <= 0 {
		return false
	}
	if p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 && !half {
		return true
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n == 0 && err == nil && !half || err == unix.ECONNRESET
}
