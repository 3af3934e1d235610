package grpcproxy

import (
	"errors"
	"net"
	"slices"
	"syscall"
	"time"
)

const acceptPause = 10 * time.Millisecond

// Accept hands each connection of ln to serve, which must not wait, until ln is closed; it answers why Accept of ln failed. While
// the process, or the machine, can have no more connections it tells scarce of that and tries again after a moment: those that are open
// go on, and make room when they end. In that moment the end of done ends it, too, with net.ErrClosed.
func Accept(ln net.Listener, done <-chan struct{}, scarce func(error), serve func(net.Conn)) error {
	for {
		nc, err := ln.Accept()
		if err == nil {
			serve(nc)
			continue
		}
		if !slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) }) {
			return err
		}
		scarce(err)
		select {
		case <-time.After(acceptPause):
		case <-done:
			return net.ErrClosed
		}
	}
}

// passing are errors of accept(2) that say nothing of the listener.
var passing = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}
