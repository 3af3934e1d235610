package access

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func unixPeer(nc *net.UnixConn) (uid int, err error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var credErr error
	if err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return -1, err
	}
	if credErr != nil {
		return -1, fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return int(cred.Uid), nil
}

// tcpPeer is the user who owns the other end of a connection within this network namespace.
func tcpPeer(nc net.Conn) (uid int, err error) {
	peer, err := addrPort(nc.RemoteAddr())
	if err != nil {
		return -1, err
	}
	local, err := addrPort(nc.LocalAddr())
	if err != nil {
		return -1, err
	}
	if uid, err = sockDiag(peer, local); err == nil {
		return uid, nil
	}
	uid, procErr := procNet(peer, local)
	if procErr != nil {
		return -1, fmt.Errorf("sock_diag: %w; /proc/net: %w", err, procErr)
	}
	return uid, nil
}

func addrPort(a net.Addr) (netip.AddrPort, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%T is not a TCP address", a)
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), nil
}

func ownFile(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
