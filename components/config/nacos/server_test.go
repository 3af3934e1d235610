//go:build servers

package nacos_test

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/configtest"
	"github.com/outrigger-mesh/outrigger/components/config/nacos"
)

// server is the real one, as integration/servers starts it.
func server(t *testing.T) string {
	t.Helper()
	address := os.Getenv("OUTRIGGER_NACOS")
	if address == "" {
		t.Fatal("OUTRIGGER_NACOS is not set: go run ./integration/servers/cmd nacos -- go test -tags servers ...")
	}
	return address
}

func options(t *testing.T) nacos.Options {
	defaults, ok := config.Drivers.Defaults("nacos")
	if !ok {
		t.Fatal("there is no driver nacos")
	}
	o := defaults.(nacos.Options)
	o.Nacos.Addresses = []string{server(t)}
	o.Nacos.Username, o.Nacos.Password = os.Getenv("OUTRIGGER_NACOS_USER"), components.Secret(os.Getenv("OUTRIGGER_NACOS_PASSWORD"))
	o.Group = "t-" + rand.Text()
	o.ListInterval = 300 * time.Millisecond
	return o
}

func open(t *testing.T, dir string, shared *components.Shared, o nacos.Options) config.Driver {
	t.Helper()
	env := components.Env{ID: components.ID{Capability: "config", Name: "default", Driver: "nacos"}, DataDir: dir, Shared: shared,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	d, err := nacos.Open(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return d
}

// ask calls the HTTP interface of the server, as its console does.
func ask(t *testing.T, method, path string, form url.Values) string {
	t.Helper()
	in, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, "http://"+server(t)+"/nacos"+path+"?"+form.Encode(), nil)
	if method == http.MethodPost {
		in, err = http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, "http://"+server(t)+"/nacos"+path, strings.NewReader(form.Encode()))
	}
	if err != nil {
		t.Fatal(err)
	}
	in.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	in.Close = true
	out, err := http.DefaultClient.Do(in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	if err != nil || out.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s %v", method, path, out.StatusCode, text, err)
	}
	return string(text)
}

func backend(t *testing.T) configtest.Backend {
	o := options(t)
	form := func(full string) url.Values {
		namespace, key, _ := strings.Cut(full, "/")
		return url.Values{"dataId": {nacos.DataID(key)}, "group": {o.Group}, "tenant": {namespace}}
	}
	return configtest.Backend{Driver: open(t, t.TempDir(), nil, o),
		Put: func(key, value string) {
			in := form(key)
			in.Set("content", nacos.ContentOf([]byte(value)))
			if got := ask(t, http.MethodPost, "/v1/cs/configs", in); got != "true" {
				t.Errorf("put %q: %s", key, got)
			}
		},
		Remove: func(key string) {
			if got := ask(t, http.MethodDelete, "/v1/cs/configs", form(key)); got != "true" {
				t.Errorf("remove %q: %s", key, got)
			}
		}}
}

func TestConformance(t *testing.T) { configtest.Run(t, backend) }
