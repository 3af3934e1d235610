package peers

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/install"
	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
)

// testCurl speaks gRPC by hand, as HTTP/2 with the five bytes before a message, and JSON over HTTP/1.1.
func testCurl(t *testing.T) {
	if err := (install.Tool{Name: "curl", Packages: "curl"}).Need(t.Context()); err != nil {
		t.Fatal(err)
	}
	version, err := exec.Command("curl", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	t.Logf("client %s", line)
	caller := startPair(t, startApp(t).port)
	t.Run("json", func(t *testing.T) { curlJSON(t, "http://"+caller.HTTP) })
	for _, c := range []struct {
		name string
		curl curl
	}{
		{"tcp", curl{"http://" + caller.GRPC}},
		{"unix", curl{"http://localhost", "--unix-socket", caller.Socket}},
	} {
		t.Run(c.name+"/cache", func(t *testing.T) {
			var out cachev1.GetResponse
			c.curl.ok(t, "outrigger.cache.v1.Cache/Get", &cachev1.GetRequest{Key: "curl"}, &out)
			if string(out.GetValue()) != "42" || out.GetContentType() != "text/plain" {
				t.Fatalf("got %v", &out)
			}
		})
		t.Run(c.name+"/absent", func(t *testing.T) {
			body, headers := c.curl.call(t, "outrigger.cache.v1.Cache/Get", &cachev1.GetRequest{Key: "absent"})
			if len(body) != 0 || !strings.Contains(headers, "\r\ngrpc-status: 5\r\n") {
				t.Fatalf("got %q with\n%s", body, headers)
			}
		})
		t.Run(c.name+"/echo", func(t *testing.T) {
			var out echopb.Message
			headers := c.curl.ok(t, "integration.echo.v1.Echo/Unary", &echopb.Message{Text: "hello"}, &out, "-H", "outrigger-service: echo")
			if out.GetText() != "hello" || out.GetInstance() != "go" || !strings.Contains(headers, "\r\noutrigger-origin: app\r\n") {
				t.Fatalf("got %v with\n%s", &out, headers)
			}
		})
	}
}

// curlJSON leaves 42 under the key "curl".
func curlJSON(t *testing.T, base string) {
	for _, c := range []struct{ method, body, field, want string }{
		{"Set", `{"key": "curl", "value": "NDE=", "contentType": "text/plain"}`, "", ""},
		{"Increment", `{"key": "curl", "delta": 1}`, "value", "42"}, // 64-bit integers are strings in JSON
		{"Get", `{"key": "curl"}`, "value", "NDI="},
		{"Get", `{"key": "absent"}`, "code", "not_found"},
	} {
		out := run(t, nil, "-H", "content-type: application/json", "-d", c.body, base+"/outrigger.cache.v1.Cache/"+c.method)
		var answer map[string]any
		if err := json.Unmarshal(out, &answer); err != nil {
			t.Fatalf("%s answered %q: %v", c.method, out, err)
		}
		if c.field != "" && answer[c.field] != c.want {
			t.Errorf("%s %s answered %s, want %s: %q", c.method, c.body, out, c.field, c.want)
		}
	}
}

// curl is a base URL and the arguments that reach it.
type curl []string

// ok calls a method, which must succeed, and answers the headers and trailers.
func (c curl) ok(t *testing.T, method string, in, out proto.Message, args ...string) string {
	t.Helper()
	body, headers := c.call(t, method, in, args...)
	if !strings.HasPrefix(headers, "HTTP/2 200") || !strings.Contains(headers, "\r\ngrpc-status: 0\r\n") {
		t.Fatalf("the answer has the headers\n%s", headers)
	}
	if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
		t.Fatalf("the answer is not one message: %q", body)
	}
	if err := proto.Unmarshal(body[5:], out); err != nil {
		t.Fatal(err)
	}
	return headers
}

func (c curl) call(t *testing.T, method string, in proto.Message, args ...string) (body []byte, headers string) {
	t.Helper()
	message, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	message = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	dump := filepath.Join(t.TempDir(), "headers")
	args = append(append(args, c[1:]...), "--http2-prior-knowledge", "-H", "content-type: application/grpc", "-H", "te: trailers",
		"--data-binary", "@-", "--dump-header", dump, c[0]+"/"+method)
	body = run(t, message, args...)
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	return body, string(text)
}

// run runs curl and answers the body it got.
func run(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("curl", append([]string{"--silent", "--show-error", "--max-time", "60"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, errs.Bytes())
	}
	return out
}
