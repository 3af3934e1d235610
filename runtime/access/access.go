// Package access decides who may call the API. On the application's unix socket that is the sidecar's own user and root, as
// the kernel names the peer. On loopback TCP the peer's user is looked up once a connection; another user, and a peer whose
// user cannot be found, needs the API token. Whoever is not known is refused: there is no way in by a failure to find out.
//
// A connection that a proxy of root (such as that of a container engine) forwards is root's: the proxy made it.
package access

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

// Mode says who may call over TCP. The unix socket is always for the own user and root alone.
type Mode string

// SameUser lets the sidecar's own user and root pass and asks others for the token; Token asks everyone; Any asks nobody,
// for pods, where the network namespace is the boundary.
const (
	SameUser Mode = "same-user"
	TokenAll Mode = "token"
	Any      Mode = "any"
)

// What a caller that is refused is told.
const (
	ReasonTokenRequired components.Reason = "TOKEN_REQUIRED"
	ReasonTokenInvalid  components.Reason = "TOKEN_INVALID"
	ReasonUserDenied    components.Reason = "USER_DENIED"
)

// TokenHeader is the metadata or HTTP header a token comes in; "authorization: Bearer TOKEN" is the other way.
const TokenHeader = "outrigger-token"

// Policy is who may call. Safe for concurrent use.
type Policy struct {
	Mode  Mode
	Token *Token // nil: there is none that would open
}

// Peer is who stands at the other end of a connection.
type Peer struct {
	UID     int   // -1: not known
	Err     error // why it is not known
	Unix    bool  // it came over a unix socket
	trusted bool
}

// Identify finds out who a connection is from. It asks the kernel: call it once a connection, soon after it was accepted.
func (p *Policy) Identify(nc net.Conn) Peer {
	if u, ok := nc.(*net.UnixConn); ok {
		uid, err := unixPeer(u)
		return Peer{UID: uid, Err: err, Unix: true, trusted: err == nil && own(uid)}
	}
	if p.Mode == Any {
		return Peer{UID: -1, Err: errors.New("access is any: nobody was asked"), trusted: true}
	}
	uid, err := tcpPeer(nc)
	return Peer{UID: uid, Err: err, trusted: err == nil && own(uid) && p.Mode == SameUser}
}

func own(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// Admit lets a request in or refuses it with ErrUnauthenticated or ErrDenied. header answers the first value of one of the
// request's headers, by its lower-case name.
func (p *Policy) Admit(peer Peer, header func(name string) string) error {
	if peer.trusted {
		return nil
	}
	if peer.Unix {
		err := fmt.Errorf("%w: this socket is not for %s", components.ErrDenied, peer.who())
		return components.WithReason(err, ReasonUserDenied, "uid", peer.uid())
	}
	given := bearer(header)
	switch {
	case given == "":
		err := fmt.Errorf("%w: %s needs the API token of this sidecar in the metadata %q", components.ErrUnauthenticated, peer.who(), TokenHeader)
		return components.WithReason(err, ReasonTokenRequired, "uid", peer.uid())
	case !p.Token.Equal(given):
		err := fmt.Errorf("%w: the token is not this sidecar's", components.ErrUnauthenticated)
		return components.WithReason(err, ReasonTokenInvalid)
	}
	return nil
}

func bearer(header func(string) string) string {
	if t := header(TokenHeader); t != "" {
		return t
	}
	scheme, token, ok := strings.Cut(header("authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func (p Peer) who() string {
	if p.UID < 0 {
		return "a caller whose user is not known"
	}
	return "user " + p.uid()
}

func (p Peer) uid() string {
	if p.UID < 0 {
		return "unknown"
	}
	return strconv.Itoa(p.UID)
}
