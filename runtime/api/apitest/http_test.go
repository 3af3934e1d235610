package apitest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	nethttp "net/http"
	"strings"
	"testing"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"
)

const (
	existsPath = "/outrigger.cache.v1.Cache/Exists"
	watchPath  = "/outrigger.config.v1.Config/Watch"
)

// plainError is an error as a person with curl sees it.
type plainError struct {
	Code, Message string
	Details       []struct {
		Debug struct{ Reason string }
	}
}

func (e plainError) reason() string {
	if len(e.Details) == 0 {
		return ""
	}
	return e.Details[0].Debug.Reason
}

func TestWhatPeopleSendByHand(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		name, method, path, contentType, body string
		header                                map[string]string
		status                                int
		code, reason, hint                    string
	}{
		{"as it should be", "POST", existsPath, "application/json", `{"key":"k"}`, nil, 200, "", "", ""},
		{"with a charset", "POST", existsPath, "application/json; charset=UTF-8", `{"key":"k"}`, nil, 200, "", "", ""},
		{"no content type", "POST", existsPath, "", `{"key":"k"}`, nil, 415, "invalid_argument", "CONTENT_TYPE", "application/json"},
		{"curl -d", "POST", existsPath, "application/x-www-form-urlencoded", `{"key":"k"}`, nil, 415, "invalid_argument", "CONTENT_TYPE", "application/json"},
		{"another charset", "POST", existsPath, "application/json; charset=latin1", `{"key":"k"}`, nil, 415, "invalid_argument", "CONTENT_TYPE", ""},
		{"gRPC", "POST", existsPath, "application/grpc", ``, nil, 415, "invalid_argument", "CONTENT_TYPE", ""},
		{"another encoding", "POST", existsPath, "application/json", `x`, map[string]string{"Content-Encoding": "br"}, 415, "invalid_argument", "CONTENT_TYPE", "br"},
		{"not gzip", "POST", existsPath, "application/json", `x`, map[string]string{"Content-Encoding": "gzip"}, 400, "invalid_argument", "MALFORMED_REQUEST", ""},
		{"GET", "GET", existsPath, "", "", nil, 405, "unimplemented", "HTTP_METHOD", "POST"},
		{"a question of CORS", "OPTIONS", existsPath, "", "", nil, 405, "unimplemented", "HTTP_METHOD", "POST"},
		{"the root", "GET", "/", "", "", nil, 404, "not_found", "UNKNOWN_PATH", "POST /outrigger.cache.v1.Cache/Get"},
		{"no such method", "POST", "/outrigger.cache.v1.Cache/Gett", "application/json", `{}`, nil, 404, "not_found", "UNKNOWN_PATH", "did you mean /outrigger.cache.v1.Cache/Get?"},
		{"no package", "POST", "/Cache/Get", "application/json", `{}`, nil, 404, "not_found", "UNKNOWN_PATH", "did you mean /outrigger.cache.v1.Cache/Get?"},
		{"a misspelt field", "POST", existsPath, "application/json", `{"kee":"k"}`, nil, 400, "invalid_argument", "MALFORMED_REQUEST", `unknown field "kee" (did you mean "key"?)`},
		{"a duration without a unit", "POST", "/outrigger.cache.v1.Cache/Set", "application/json", `{"key":"k","ttl":"60"}`, nil, 400, "invalid_argument", "MALFORMED_REQUEST", "60s"},
		{"a value that is no base64", "POST", "/outrigger.cache.v1.Cache/Set", "application/json", `{"key":"k","value":"a b"}`, nil, 400, "invalid_argument", "MALFORMED_REQUEST", "base64"},
		{"too large a message", "POST", "/outrigger.cache.v1.Cache/Set", "application/json", `{"key":"k","value":"` + strings.Repeat("AAAA", 3<<19) + `"}`, nil, 413, "resource_exhausted", "MESSAGE_TOO_LARGE", "max_message_bytes"},
		{"too large a body", "POST", "/outrigger.cache.v1.Cache/Set", "application/json", `{"key":"k","value":"` + strings.Repeat("AAAA", 3<<20) + `"}`, nil, 413, "resource_exhausted", "MESSAGE_TOO_LARGE", "max_message_bytes"},
		{"another type", "POST", existsPath, "application/json", `{"key":1}`, nil, 400, "invalid_argument", "MALFORMED_REQUEST", "key"},
		{"nothing", "POST", existsPath, "application/json", "", nil, 400, "invalid_argument", "MALFORMED_REQUEST", "send {}"},
		{"a stream by nothing", "POST", watchPath, "application/json", "\n", nil, 400, "invalid_argument", "MALFORMED_REQUEST", "send {}"},
		{"a list", "POST", existsPath, "application/json", `[]`, nil, 400, "invalid_argument", "MALFORMED_REQUEST", ""},
		{"binary that is none", "POST", existsPath, "application/proto", "\xff", nil, 400, "invalid_argument", "MALFORMED_REQUEST", ""},
		{"a timeout that is none", "POST", existsPath, "application/json", `{"key":"k"}`, map[string]string{"Connect-Timeout-Ms": "soon"}, 400, "invalid_argument", "MALFORMED_REQUEST", "not a number of milliseconds"},
		{"another Host", "POST", existsPath, "application/json", `{"key":"k"}`, map[string]string{"Host": "evil.example"}, 403, "permission_denied", "BROWSER_REFUSED", "evil.example"},
		{"a web page", "POST", existsPath, "application/json", `{"key":"k"}`, map[string]string{"Origin": "http://localhost:3000"}, 403, "permission_denied", "BROWSER_REFUSED", "web pages"},
		{"a stream of nothing", "POST", watchPath, "application/json", `{}`, nil, 400, "invalid_argument", "INVALID_ARGUMENT", ""},
		{"a stream that is misspelt", "POST", watchPath, "application/json", `{"kee":[]}`, nil, 400, "invalid_argument", "MALFORMED_REQUEST", "kee"},
		{"a component that is none", "POST", watchPath, "application/json", `{"component":"x","keys":["k"]}`, nil, 404, "not_found", "COMPONENT_NOT_FOUND", "default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := nethttp.NewRequestWithContext(within(t), c.method, "http://"+s.http+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.contentType != "" {
				r.Header.Set("Content-Type", c.contentType)
			}
			for name, value := range c.header {
				if r.Header.Set(name, value); name == "Host" {
					r.Host = value
				}
			}
			client := &nethttp.Client{Transport: &nethttp.Transport{DisableKeepAlives: true, DisableCompression: true}}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("HTTP %d, %q: %s", resp.StatusCode, resp.Header.Get("Content-Type"), text)
			}
			var e plainError
			if err := json.Unmarshal(text, &e); err != nil {
				t.Fatalf("%v: %q", err, text)
			}
			if e.Code != c.code || e.reason() != c.reason || !strings.Contains(e.Message, c.hint) {
				t.Errorf("%s", text)
			}
			if c.status == 405 && resp.Header.Get("Allow") != "POST" {
				t.Error("Allow:", resp.Header.Get("Allow"))
			}
			if resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("it lets web pages in")
			}
		})
	}
}

// A body whose size is not known beforehand takes from the budget what it turns out to have.
func TestBudgetOfBodiesOfUnknownSize(t *testing.T) {
	const body = `{"key":"k"}`
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := io.WriteString(z, body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for encoding, in := range map[string]io.Reader{"gzip": &zipped, "": io.MultiReader(strings.NewReader(body))} {
		s := start(t, func(o *server.Options) { o.MaxMessage, o.MaxInFlight = 1<<20, 1<<20 }) // one for each: a request leaves the budget after its answer
		r, err := nethttp.NewRequestWithContext(within(t), nethttp.MethodPost, "http://"+s.http+existsPath, in)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Content-Encoding", encoding)
		resp, err := newJSON(t, s.http).client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != nethttp.StatusOK {
			t.Errorf("encoding %q, length %d: HTTP %d: %s, %v", encoding, r.ContentLength, resp.StatusCode, text, err)
		}
		resp.Body.Close()
	}
}

func TestFalseIsShown(t *testing.T) {
	s := start(t)
	resp, err := newJSON(t, s.http).do(within(t), existsPath, "application/json", []byte(`{"key":"k"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || strings.ReplaceAll(strings.TrimSpace(string(text)), " ", "") != `{"exists":false}` {
		t.Errorf("%q %v", text, err)
	}
}

// A stream asked for with plain JSON, as curl does, is one JSON text a line.
func TestWatchByLines(t *testing.T) {
	s := start(t)
	cc := newJSON(t, s.http)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	resp, err := cc.do(ctx, watchPath, "application/json", []byte(`{"keys":["k"]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatal(resp.StatusCode, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	next := func() (line struct {
		Initial bool
		Changes []struct{ Key string }
		Error   plainError
	}) {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("no line:", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v: %q", err, lines.Text())
		}
		return line
	}
	if first := next(); !first.Initial || len(first.Changes) != 1 {
		t.Error(lines.Text())
	}
	must[*configv1.SetResponse](t)(configv1.NewConfigClient(cc).Set(ctx, &configv1.SetRequest{Key: "k", Value: []byte("v")}))
	if second := next(); second.Initial || len(second.Changes) != 1 || second.Changes[0].Key != "k" {
		t.Error(lines.Text())
	}
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(within(t)) }()
	if last := next(); last.Error.Code != "unavailable" || last.Error.reason() != "DRAINING" {
		t.Error(lines.Text())
	}
	if lines.Scan() {
		t.Error("a line after the error:", lines.Text())
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

func TestBodyThatEndsEarly(t *testing.T) {
	s := start(t)
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, `{"key":`)
		w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	req, err := nethttp.NewRequestWithContext(within(t), "POST", "http://"+s.http+existsPath, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if resp, err := newJSON(t, s.http).client.Do(req); err == nil {
		resp.Body.Close()
		t.Error("answered", resp.Status)
	}
	must[*cachev1.ExistsResponse](t)(cachev1.NewCacheClient(newJSON(t, s.http)).Exists(within(t), &cachev1.ExistsRequest{Key: "k"}))
}
