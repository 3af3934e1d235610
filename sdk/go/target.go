package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// target is an address that can be dialled.
type target struct{ network, address string }

// parseTarget reads HOST:PORT (":PORT" is this machine's), or unix:PATH, also written unix://PATH.
func parseTarget(text string) (target, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if strings.HasPrefix(path, "//") {
			path = path[2:]
		}
		if path == "" || strings.ContainsRune(path, 0) {
			return target{}, errors.New("not a path of a socket")
		}
		return target{"unix", path}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return target{}, errors.New("not HOST:PORT or unix:PATH")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return target{}, fmt.Errorf("%q is not a port", port)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return target{"tcp", net.JoinHostPort(host, port)}, nil
}

func (t target) String() string {
	if t.network == "unix" {
		return "unix:" + t.address
	}
	return t.address
}

// authority is the name that requests carry: of a socket there is none, so it is a neutral one.
func (t target) authority() string {
	if t.network == "unix" {
		return "localhost"
	}
	return t.address
}

// local tells whether nobody but this machine sees what is sent to a.
func local(a net.Addr) bool {
	switch a := a.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		ip, ok := netip.AddrFromSlice(a.IP)
		return ok && ip.Unmap().IsLoopback()
	default:
		return false
	}
}
