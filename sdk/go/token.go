package client

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// token is the API token as credentials of each call.
type token struct {
	given string // by option or environment
	file  string
	sent  atomic.Pointer[map[string]string] // nil: none is sent
}

func newToken(o *options) *token {
	t := &token{given: o.token}
	if o.dataDir != "" {
		t.file = filepath.Join(o.dataDir, "token")
	}
	return t
}

// refresh is called for each new connection: a sidecar that has restarted may have a new token, and where the connection
// leads tells whether it may be sent.
func (t *token) refresh(local bool) {
	text := t.given
	if text == "" && t.file != "" && local {
		// Many sidecars ask for none, so it is no error that there is none; one that does says what is missing.
		content, _ := os.ReadFile(t.file)
		text = strings.TrimSpace(string(content))
	}
	if text == "" || !local {
		t.sent.Store(nil)
		return
	}
	t.sent.Store(&map[string]string{tokenMetadata: text})
}

func (t *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if md := t.sent.Load(); md != nil {
		return *md, nil
	}
	return map[string]string{}, nil
}

// RequireTransportSecurity is false because refresh has seen that nobody is between.
func (t *token) RequireTransportSecurity() bool { return false }
