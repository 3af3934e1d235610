package control_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// book notes what it is asked for.
type book struct {
	asked []string
	fault error
}

func (b *book) note(what string, s mesh.Service) error {
	b.asked = append(b.asked, fmt.Sprintf("%s %s %s:%s:%s", what, s.Protocol, s.Name, s.Version, s.Group))
	return b.fault
}
func (b *book) Publish(_ context.Context, s mesh.Service) error   { return b.note("publish", s) }
func (b *book) Unpublish(_ context.Context, s mesh.Service) error { return b.note("unpublish", s) }
func (b *book) Subscribe(s mesh.Service) error                    { return b.note("subscribe", s) }

func serve(t *testing.T, b *book) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := control.New(control.Options{Backend: b, Outbound: "127.0.0.1:12220", Access: &access.Policy{Mode: access.SameUser}, Logger: slog.New(slog.DiscardHandler)})
	ended := make(chan struct{})
	go func() { _ = s.Serve(ln); close(ended) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return "http://" + ln.Addr().String()
}

func post(t *testing.T, url, body string, header ...string) (code int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	r.Header.Set("Content-Type", "text/plain") // as SOFARPC says
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// What SOFARPC 5.13.2 sends, as it was captured, and what counts of the answer; then MOSN's calls.
func TestContract(t *testing.T) {
	b := &book{}
	at := serve(t, b)
	for _, c := range []struct{ path, body, answer, asked string }{
		{"/configs/application", `{"appName":"sofa-provider"}`, `{"success":true}`, ""},
		{"/services/publish", `{"serviceName":"peer.Hello:1.0","protocolType":"bolt","providerMetaInfo":{"protocol":"bolt","version":"4.0","serializeType":"hessian2","appName":"sofa-provider","properties":{}},"onlyPublishInCloud":false,"group":null}`,
			`{"success":true}`, "publish bolt peer.Hello:1.0:"},
		{"/services/subscribe", `{"serviceName":"peer.Hello:1.0:blue","protocolType":"bolt","targetAppAddress":null,"vipEnforce":false,"vipOnly":false,"localCloudFirst":false,"group":null,"properties":null}`,
			`{"success":true,"serviceName":"peer.Hello:1.0:blue","datas":["127.0.0.1:12220?p=1\u0026v=4.0\u0026rpcVer=51302"]}`, "subscribe bolt peer.Hello:1.0:blue"},
		{"/services/unsubscribe", `{"serviceName":"peer.Hello:1.0","targetAppAddress":null,"protocolType":"bolt","group":null}`, `{"success":true}`, ""},
		{"/services/unpublish", `{"serviceName":"peer.Hello:1.0","protocolType":"bolt","group":null}`, `{"success":true}`, "unpublish bolt peer.Hello:1.0:"},
		{"/pub", `{"registry":{"type":"zookeeper","addr":"127.0.0.1:2181"},"service":{"interface":"peer.Hello","methods":["hello"],"group":"g","version":"1.2"}}`,
			`{"err_no":0,"err_msg":"pub success"}`, "publish dubbo peer.Hello:1.2:g"},
		{"/unpub", `{"service":{"interface":"peer.Hello","group":"g","version":"1.2"}}`, `{"err_no":0,"err_msg":"unpub success"}`, "unpublish dubbo peer.Hello:1.2:g"},
		{"/sub", `{"service":{"interface":"peer.Hello","methods":["hello"]}}`, `{"err_no":0,"err_msg":"sub success"}`, "subscribe dubbo peer.Hello::"},
		{"/unsub", `{"service":{"interface":"peer.Hello","methods":["hello"]}}`, `{"err_no":0,"err_msg":"unsub success"}`, ""},
	} {
		b.asked = nil
		if code, answer := post(t, at+c.path, c.body); code != http.StatusOK || answer != c.answer {
			t.Errorf("%s: %d %s, want %s", c.path, code, answer, c.answer)
		}
		if got := strings.Join(b.asked, ", "); got != c.asked {
			t.Errorf("%s: asked for %q, want %q", c.path, got, c.asked)
		}
	}
}

// What is refused is answered in a form that the client reads, with the reason, and reaches nobody.
func TestWhatIsRefused(t *testing.T) {
	b := &book{}
	at := serve(t, b)
	for _, c := range []struct {
		path, body string
		header     []string
		code       int
		answer     string
	}{
		{"/services/publish", `{"serviceName":`, nil, 400, `{"success":false,"errorMessage":"invalid`},
		{"/services/publish", `{"serviceName":"","protocolType":"bolt"}`, nil, 200, `{"success":false,"errorMessage":"invalid`},
		{"/services/publish", `{"serviceName":"a b:1.0","protocolType":"bolt"}`, nil, 200, `{"success":false`},
		{"/services/publish", `{"serviceName":"a:1.0","protocolType":"rest"}`, nil, 200, `{"success":false`},
		{"/services/publish", `{"serviceName":"a:1.0"}`, []string{"Origin", "http://127.0.0.1"}, 403, `{"success":false`},
		{"/services/publish", strings.Repeat(" ", 70_000), nil, 400, `{"success":false`},
		{"/pub", `[]`, nil, 400, `{"err_no":1`},
		{"/pub", `{"service":{}}`, nil, 200, `{"err_no":1`},
		{"/nowhere", `{}`, nil, 404, "This port is for SOFARPC"},
	} {
		if code, answer := post(t, at+c.path, c.body, c.header...); code != c.code || !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s %.50s: %d %s, want %d %s", c.path, c.body, code, answer, c.code, c.answer)
		}
	}
	if len(b.asked) != 0 {
		t.Errorf("asked for %q", b.asked)
	}
	b.fault = fmt.Errorf("%w: no port", components.ErrPrecondition)
	if code, answer := post(t, at+"/services/publish", `{"serviceName":"a:1.0"}`); code != 200 || !strings.Contains(answer, `"success":false`) || !strings.Contains(answer, "no port") {
		t.Errorf("%d %s", code, answer)
	}
}
