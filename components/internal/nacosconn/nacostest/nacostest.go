// Package nacostest is where tests of drivers find the Nacos that was started for them.
package nacostest

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatal(name + " is not set: run with go run ./integration/servers/cmd nacos -- go test -tags servers ...")
	}
	return value
}

// patience is what a server may take on a busy machine.
const patience = 30 * time.Second

// Options are those of the Nacos in OUTRIGGER_NACOS. Without one the test fails.
func Options(t *testing.T) nacosconn.Options {
	t.Helper()
	o := nacosconn.Defaults()
	o.Timeout = patience
	o.Addresses = []string{env(t, "OUTRIGGER_NACOS")}
	o.User, o.Password = os.Getenv("OUTRIGGER_NACOS_USER"), components.Secret(os.Getenv("OUTRIGGER_NACOS_PASSWORD"))
	return o
}

// Wire leads to that Nacos: both of its ports.
type Wire struct{ http, grpc *wiretest.Wire }

// NewWire is a wire of the test's own, and the options of who goes by it, with the usual timeout.
func NewWire(t *testing.T) (Wire, nacosconn.Options) {
	t.Helper()
	o := Options(t)
	w := Wire{wiretest.New(t, o.Addresses[0]), wiretest.New(t, env(t, "OUTRIGGER_NACOS_AT_GRPC"))}
	o.Timeout = nacosconn.Defaults().Timeout
	o.Addresses, o.GRPCOffset = []string{w.http.Addr()}, port(t, w.grpc.Addr())-port(t, w.http.Addr())
	return w, o
}

func port(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Set changes what it does.
func (w Wire) Set(m wiretest.Mode) {
	w.http.Set(m)
	w.grpc.Set(m)
}

// Ask calls the HTTP interface of the server, as its console does, and answers what it says.
func Ask(t *testing.T, method, path string, form url.Values) string {
	t.Helper()
	o := Options(t)
	text, code := ask(t, o, method, path, form, login(t, o))
	if code != http.StatusOK {
		t.Fatalf("%s %s: HTTP status %d: %s", method, path, code, text)
	}
	return text
}

func login(t *testing.T, o nacosconn.Options) string {
	t.Helper()
	if o.User == "" {
		return ""
	}
	text, code := ask(t, o, http.MethodPost, "/v1/auth/users/login", url.Values{"username": {o.User}, "password": {o.Password.Reveal()}}, "")
	out := struct{ AccessToken string }{}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("login: HTTP status %d: %s: %v", code, text, err)
	}
	return out.AccessToken
}

func ask(t *testing.T, o nacosconn.Options, method, path string, form url.Values, token string) (string, int) {
	t.Helper()
	where, body := "http://"+o.Addresses[0]+o.ContextPath+path, io.Reader(nil)
	if method == http.MethodPost {
		body = strings.NewReader(form.Encode())
	} else {
		where += "?" + form.Encode()
	}
	in, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, where, body)
	if err != nil {
		t.Fatal(err)
	}
	in.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if token != "" {
		in.Header.Set("Authorization", "Bearer "+token)
	}
	in.Close = true
	out, err := http.DefaultClient.Do(in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), out.StatusCode
}
