//go:build !linux

package db

import "golang.org/x/sys/unix"

const uptimeClock = unix.CLOCK_MONOTONIC // on Darwin it goes on while the machine sleeps
