package client

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// token is the API token as credentials of each call.
type token struct {
	given  string // by option or environment
	file   string
	trusts func(uid uint32) bool // with the file's content
	log    *slog.Logger
	sent   atomic.Pointer[map[string]string] // nil: none is sent
}

func newToken(o *options) *token {
	t := &token{given: o.token, trusts: o.trusts, log: o.logger}
	if o.dataDir != "" {
		t.file = filepath.Join(o.dataDir, "token")
	}
	return t
}

// refresh is called for each new connection: a sidecar that has restarted may have a new token, and where the connection
// leads tells whether it may be sent. named: the address is, by option or environment.
func (t *token) refresh(conn net.Conn, named bool) {
	t.sent.Store(nil)
	if !local(conn.RemoteAddr()) {
		return
	}
	text := t.given
	if text == "" {
		text = t.read(conn, named)
	}
	if text != "" {
		t.sent.Store(&map[string]string{tokenMetadata: text})
	}
}

// read is the token of the data folder, if conn leads where it may go. Whoever comes first can listen on the default port, so
// it is not for any process of this machine.
func (t *token) read(conn net.Conn, named bool) string {
	if t.file == "" {
		return ""
	}
	// Many sidecars ask for none, so it is no error that there is none; one that does says what is missing.
	content, _ := os.ReadFile(t.file)
	text := strings.TrimSpace(string(content))
	if text == "" || named {
		return text
	}
	uids, err := owners(conn)
	trusted := err == nil && len(uids) > 0
	for _, uid := range uids {
		trusted = trusted && t.trusts(uid)
	}
	if !trusted {
		t.log.Warn("the API token is not sent: the listener is not known to be of this user or root", "address", conn.RemoteAddr().String(), "uids", uids, "err", err)
		return ""
	}
	return text
}

// ownOrRoot is whom the token is for: both could read it from its file.
func ownOrRoot(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

func (t *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if md := t.sent.Load(); md != nil {
		return *md, nil
	}
	return map[string]string{}, nil
}

// RequireTransportSecurity is false because refresh has seen that nobody is between.
func (t *token) RequireTransportSecurity() bool { return false }
