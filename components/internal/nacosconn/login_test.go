package nacosconn

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestTokens: one is used until the last fifth of its time, or until it is denied; who is denied a new one logs in no more.
func TestTokens(t *testing.T) {
	logins, ttl := 0, 18000
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		logins++
		fmt.Fprintf(w, `{"accessToken": "token-%d", "tokenTtl": %d}`, logins, ttl)
	}))
	defer server.Close()
	o := Defaults()
	o.User, o.Password = "app", "secret"
	d, err := newDoor(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	fresh := func(want string) {
		t.Helper()
		if got, err := d.fresh(t.Context(), server.Listener.Addr().String()); err != nil || got != want {
			t.Errorf("the token is %q, %v; want %q", got, err, want)
		}
	}
	fresh("token-1")
	fresh("token-1")
	if d.denied("token-1") {
		t.Error("a token that is new is denied, and another is to be had")
	}
	fresh("token-1")
	d.since = d.since.Add(-loginRest)
	if !d.denied("token-1") || !d.denied("token-1") {
		t.Error("an old token is denied, and no other is to be had")
	}
	fresh("token-2")
	if !d.denied("token-1") {
		t.Error("the token before the last is denied, and the last is not to be had")
	}
	if at := time.Until(d.until); at > maxToken || at < maxToken/2 {
		t.Errorf("the token is used for %s", at)
	}
	d.until, ttl = time.Now(), 5
	fresh("token-3")
	if at := time.Until(d.until); at > 4*time.Second {
		t.Errorf("a token for 5 s is used for %s", at)
	}
}
