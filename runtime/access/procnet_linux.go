package access

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// procNet finds what sockDiag finds where netlink is not to be had, as under some seccomp profiles.
func procNet(local, remote netip.AddrPort) (uid int, err error) {
	files := []string{"/proc/net/tcp6"}
	if local.Addr().Is4() {
		files = []string{"/proc/net/tcp", "/proc/net/tcp6"} // an IPv6 socket may speak IPv4
	}
	for _, name := range files {
		f, openErr := os.Open(name)
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		uid, findErr := findSocket(f, local, remote)
		f.Close()
		if findErr == nil {
			return uid, nil
		}
		err = errors.Join(err, findErr)
	}
	return -1, err
}

// findSocket reads a table of proc_net_tcp(5): "sl: local remote state queues timer retransmits uid timeout inode ...".
func findSocket(table io.Reader, local, remote netip.AddrPort) (uid int, err error) {
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			continue
		}
		if from, ok := procAddr(f[1]); !ok || from != local {
			continue
		}
		if to, ok := procAddr(f[2]); !ok || to != remote {
			continue
		}
		if f[9] == "0" { // an orphan, listed as root's
			return -1, errNoSocket
		}
		return strconv.Atoi(f[7])
	}
	if err := lines.Err(); err != nil {
		return -1, err
	}
	return -1, errNoSocket
}

// procAddr reads ADDRESS:PORT, the address as hexadecimal words in the machine's byte order.
func procAddr(text string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(addr)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(words) != 4 && len(words) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	ip, _ := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), true
}
