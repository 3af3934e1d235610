package nacosconn_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOnlyMessagesOfTheSDK: its clients, its logger and its metrics are not in the binary.
func TestOnlyMessagesOfTheSDK(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const sdk = "github.com/nacos-group/nacos-sdk-go/v2/"
	found := 0
	for name := range strings.FieldsSeq(string(out)) {
		if part, ok := strings.CutPrefix(name, sdk); ok {
			found++
			if part != "api/grpc" && part != "model" {
				t.Errorf("%s is linked", name)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d packages of the SDK are linked, want 2", found)
	}
}

func TestOptions(t *testing.T) {
	good := func(change func(*nacosconn.Options)) nacosconn.Options {
		o := nacosconn.Defaults()
		o.Addresses = []string{"10.0.0.1:8848"}
		change(&o)
		return o
	}
	for want, change := range map[string]func(*nacosconn.Options){
		"":                 func(*nacosconn.Options) {},
		"addresses":        func(o *nacosconn.Options) { o.Addresses = nil },
		"no port":          func(o *nacosconn.Options) { o.GRPCOffset = 60000 },
		"there is no user": func(o *nacosconn.Options) { o.Password = "x" },
		"context_path":     func(o *nacosconn.Options) { o.ContextPath = "nacos/" },
		"timeout":          func(o *nacosconn.Options) { o.Timeout = 0 },
		"heartbeat":        func(o *nacosconn.Options) { o.Heartbeat = 21e9 },
		"tls":              func(o *nacosconn.Options) { o.TLS = backend.TLS{CA: "x"} },
		"is no address":    func(o *nacosconn.Options) { o.Addresses = []string{"http://10.0.0.1:8848/nacos"} },
	} {
		err := good(change).Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestKey: who has another password has another connection, and no key shows one.
func TestKey(t *testing.T) {
	o := nacosconn.Defaults()
	o.User, o.Password = "a", "one"
	other := o
	if o.Key() != other.Key() {
		t.Error("equal options have different keys")
	}
	other.Password = components.Secret("two")
	if o.Key() == other.Key() {
		t.Error("two passwords have one key")
	}
}

type nobody struct{}

func (nobody) Connected(context.Context) {}
func (nobody) Pushed(string, []byte)     {}

// TestPasswordsGoToVerifiedServersOnly, and are in no error: here the login is refused, as a real server does it.
func TestPasswordsGoToVerifiedServersOnly(t *testing.T) {
	const canary = "canary-91c3"
	var logins atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		logins.Add(1)
		if r.PostFormValue("password") != canary || strings.Contains(r.URL.String(), canary) {
			t.Errorf("the login is %s %v", r.URL, r.PostForm)
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte("HTTP/1.1 0 \r\nContent-Length: 0\r\n\r\n"))
		conn.Close()
	}))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ca, want string
		reason   components.Reason
		logins   int64
	}{{"", "certificate", backend.ReasonUnreachable, 0}, {ca, "refuses", backend.ReasonRefused, 1}} {
		o := nacosconn.Defaults()
		o.Addresses, o.User, o.Password, o.TLS = []string{server.Listener.Addr().String()}, "app", canary, backend.TLS{Enabled: true, CA: c.ca}
		client, err := nacosconn.Open(t.Context(), slog.New(slog.DiscardHandler), nacosconn.Config, o, nobody{})
		client.Close()
		var d *components.Detail
		if !errors.As(err, &d) || d.Reason != c.reason || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), canary) || logins.Load() != c.logins {
			t.Errorf("%v, after %d logins; want %s, %q, after %d", err, logins.Load(), c.reason, c.want, c.logins)
		}
	}
}

func TestNamespaces(t *testing.T) {
	names := map[string]string{"default": "public", "shop": "4c1e2b7a-0000-4000-8000-123456789abc"}
	if err := nacosconn.CheckNamespaces(names); err != nil {
		t.Error(err)
	}
	for in, want := range map[string]string{"default": "public", "shop": names["shop"], "other": "other", "a.b_c": "a_2Eb_5Fc"} {
		if got := nacosconn.Namespace(names, in); got != want {
			t.Errorf("%s is kept in %s, want %s", in, got, want)
		}
	}
	for _, bad := range []map[string]string{{"a": ""}, {"a": "x y"}, {"a": "ü"}, {"a": "x", "b": "x"}, {"a": strings.Repeat("x", 65)}} {
		if nacosconn.CheckNamespaces(bad) == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}
