package integration

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// TestHTTPOnTheGRPCPorts: who has taken one port for the other is told so in a way that can be read, with a command that works.
func TestHTTPOnTheGRPCPorts(t *testing.T) {
	s := harness.Start(t, harness.Options{App: "a"})
	for name, address := range map[string]string{"api": s.GRPC, "outbound": s.Outbound} {
		res, err := http.Get("http://" + address + "/")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		text := string(body)
		if _, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}); err == nil || !strings.Contains(err.Error(), "handshake failure") {
			t.Errorf("%s: TLS: %v", name, err)
		}
		if name == "outbound" { // where calls to services go
			if err != nil || res.StatusCode != http.StatusNotFound || res.Header.Get("outrigger-reason") != "SERVICE_UNNAMED" || !strings.Contains(text, "outrigger-service") {
				t.Errorf("%s: %s: %q, %v", name, res.Status, text, err)
			}
			continue
		}
		if err != nil || res.StatusCode != http.StatusBadRequest || !strings.Contains(text, "gRPC") || !strings.Contains(text, "http://"+s.HTTP) {
			t.Errorf("%s: %s: %q, %v", name, res.Status, text, err)
		}
		command := regexp.MustCompile(`curl .*`).FindString(text)
		if out, err := exec.Command("sh", "-c", command).Output(); err != nil || string(out) != `{"exists":false}` && string(out) != `{}` {
			t.Errorf("%s: %s answers %q, %v", name, command, out, err)
		}
	}
	unix := &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", s.Socket) }}
	res, err := (&http.Client{Transport: unix}).Get("http://a/")
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != http.StatusBadRequest {
		t.Errorf("the socket: %s", res.Status)
	}
}

// TestOtherUserIsRefusedOverGRPC: the user is known though the first bytes of the connection were read before it was asked for.
func TestOtherUserIsRefusedOverGRPC(t *testing.T) {
	if syscall.Geteuid() != 0 {
		t.Fatal("this test starts a process as another user, for which it must run as root")
	}
	s := harness.Start(t, harness.Options{App: "a"})
	for _, c := range []struct {
		address string
		user    uint32
		want    string
	}{{s.GRPC, 0, "exists"}, {s.GRPC, 65534, "TOKEN_REQUIRED"}, {s.Outbound, 0, "exists"}, {s.Outbound, 65534, "TOKEN_REQUIRED"}} {
		cmd := exec.Command(harness.Binary(t), "call", "-addr", c.address, "Cache/Exists", `{"key":"k"}`)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.user, Gid: c.user}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.user == 0) || c.user != 0 && !strings.Contains(string(out), c.want) {
			t.Errorf("user %d on %s: %v %s", c.user, c.address, err, out)
		}
	}
}
