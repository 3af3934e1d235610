package access

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The layouts are those of linux/netlink.h and linux/inet_diag.h: struct nlmsghdr (16 bytes), inet_diag_req_v2 (56), inet_diag_msg (72).
const (
	sockDiagByFamily = 20
	headerSize       = 16
	requestSize      = 56
	answerSize       = 72
	idOffset         = 4 // of inet_diag_msg's inet_diag_sockid
	requestID        = 8 // of inet_diag_req_v2's
	uidOffset        = 64
	inodeOffset      = 68
)

var errNoSocket = errors.New("no such connection on this machine")

// sockDiag asks the kernel who owns the socket that is bound to local and connected to remote.
func sockDiag(local, remote netip.AddrPort) (uid int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	// The kernel answers within sendto; the bound is for the day it does not.
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return -1, err
	}
	if err = unix.Sendto(fd, diagRequest(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return -1, err
	}
	answer := make([]byte, 4<<10)
	n, from, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return -1, err
	}
	if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return -1, errors.New("an answer that is not the kernel's")
	}
	return diagAnswer(answer[:n], local, remote)
}

func diagRequest(local, remote netip.AddrPort) []byte {
	b := make([]byte, headerSize+requestSize)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[headerSize:]
	r[0], r[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if local.Addr().Is4() {
		r[0] = unix.AF_INET // finds the sockets of IPv6 that speak IPv4 too
	}
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // any state: an orphan is told from its inode, not missed for its state
	id := r[requestID:]
	binary.BigEndian.PutUint16(id, local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// diagAnswer takes the user from the kernel's answer if it is about that very connection and some process still holds it:
// a socket without an inode is an orphan, for which the kernel names root.
func diagAnswer(b []byte, local, remote netip.AddrPort) (int, error) {
	if len(b) < headerSize+4 {
		return -1, errors.New("short answer")
	}
	if typ := binary.NativeEndian.Uint16(b[4:]); typ == unix.NLMSG_ERROR {
		if errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[headerSize:]))); errno != unix.ENOENT {
			return -1, errno
		}
		return -1, errNoSocket
	} else if typ != sockDiagByFamily || len(b) < headerSize+answerSize {
		return -1, fmt.Errorf("unexpected answer of type %d", typ)
	}
	m := b[headerSize:]
	id := m[idOffset:]
	found := diagAddr(m[0], id[4:20], binary.BigEndian.Uint16(id))
	to := diagAddr(m[0], id[20:36], binary.BigEndian.Uint16(id[2:]))
	if found != local || to != remote || binary.NativeEndian.Uint32(m[inodeOffset:]) == 0 {
		return -1, errNoSocket
	}
	return int(binary.NativeEndian.Uint32(m[uidOffset:])), nil
}

func diagAddr(family byte, addr []byte, port uint16) netip.AddrPort {
	if family == unix.AF_INET {
		addr = addr[:4]
	}
	ip, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(ip.Unmap(), port)
}
