//go:build !unix

package httpproxy

import "syscall"

// Where sockets are no file descriptors, the relay uses net.Conn alone: slower, and a client that goes is noticed when it is
// written to.

const rawSockets = false

func sysRead(uintptr, []byte) (int, error)  { return 0, syscall.EINVAL }
func sysWrite(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }
func sysEmpty(uintptr, bool) bool           { return true }
func hungUp(uintptr, bool) bool             { return false }
