package client

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// owners are the users whose sockets are at the other end of a connection on this machine. None: they are not known.
func owners(conn net.Conn) ([]uint32, error) {
	switch conn := conn.(type) {
	case *net.UnixConn:
		return connectedTo(conn)
	case *net.TCPConn:
		near, far := conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		return listeners(near, far)
	default:
		return nil, fmt.Errorf("%T is no connection of this machine", conn)
	}
}

func connectedTo(conn *net.UnixConn) (uids []uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	failed := raw.Control(func(fd uintptr) {
		var cred *syscall.Ucred
		if cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			uids = []uint32{cred.Uid}
		}
	})
	return uids, errors.Join(failed, err)
}

// listeners asks the kernel's tables of this network namespace.
func listeners(near, far netip.AddrPort) (uids []uint32, err error) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // without IPv6 there is one table
		}
		if err != nil {
			return nil, err
		}
		some, err := scan(f, near, far)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", table, err)
		}
		uids = append(uids, some...)
	}
	return uids, nil
}

// scan answers whose sockets listen on far, or are its end of a connection from near: a process may have stopped listening
// since it was connected to.
func scan(table io.Reader, near, far netip.AddrPort) (uids []uint32, err error) {
	const listening = "0A"
	lines := bufio.NewScanner(table)
	lines.Scan() // the headings
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 {
			return nil, fmt.Errorf("%q has too few columns", lines.Text())
		}
		at, err := parseEntry(fields[1])
		if err != nil {
			return nil, err
		}
		if at.Port() != far.Port() || at.Addr() != far.Addr().Unmap() && !at.Addr().IsUnspecified() {
			continue
		}
		from, err := parseEntry(fields[2])
		if err != nil {
			return nil, err
		}
		if fields[3] != listening && from != netip.AddrPortFrom(near.Addr().Unmap(), near.Port()) {
			continue
		}
		uid, err := strconv.ParseUint(fields[7], 10, 32)
		if err != nil {
			return nil, err
		}
		uids = append(uids, uint32(uid))
	}
	return uids, lines.Err()
}

// parseEntry reads HEX:PORT, where each 32 bits of the address are in the order of this machine.
func parseEntry(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	for word := raw; len(word) > 0; word = word[4:] {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q has no port", text)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}
