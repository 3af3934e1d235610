package apitest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestTokenOpens(t *testing.T) {
	everyone := func(o *server.Options) { o.Access.Mode = access.TokenAll }
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		if f.name == "unix" {
			t.Log("the socket asks for no token: peer credentials say who is there")
			must[*cachev1.ExistsResponse](t)(cachev1.NewCacheClient(cc).Exists(within(t), &cachev1.ExistsRequest{Key: "k"}))
			return
		}
		for _, c := range []struct {
			pairs  []string
			reason string
		}{
			{nil, "TOKEN_REQUIRED"}, {[]string{"outrigger-token", "no"}, "TOKEN_INVALID"},
			{[]string{"outrigger-token", "let me in"}, ""}, {[]string{"authorization", "Bearer let me in"}, ""},
		} {
			ctx := metadata.NewOutgoingContext(within(t), metadata.Pairs(c.pairs...))
			_, err := cachev1.NewCacheClient(cc).Exists(ctx, &cachev1.ExistsRequest{Key: "k"})
			stream, streamErr := configv1.NewConfigClient(cc).Watch(ctx, &configv1.WatchRequest{Keys: []string{"k"}})
			if streamErr == nil {
				_, streamErr = stream.Recv()
			}
			_, healthErr := healthv1.NewHealthClient(cc).Check(ctx, &healthv1.HealthCheckRequest{})
			noErr := cc.Invoke(ctx, "/outrigger.none.v1.None/None", &cachev1.GetRequest{}, &cachev1.GetResponse{})
			var meshErr error
			if !f.json { // a path that is not the API's own
				meshErr = cc.Invoke(ctx, "/shop.Stock/Get", &cachev1.GetRequest{}, &cachev1.GetResponse{})
			} else {
				meshErr = noErr
			}
			if c.reason == "" {
				if err != nil || streamErr != nil || healthErr != nil || noErr == nil {
					t.Error(c.pairs, err, streamErr, healthErr, noErr)
				}
				continue
			}
			for what, err := range map[string]error{"a call": err, "a stream": streamErr, "health": healthErr, "no method": noErr, "the mesh": meshErr} {
				refused(t, fmt.Sprint(what, c.pairs), err, codes.Unauthenticated, c.reason)
			}
		}
	}, everyone)
}

// The test binary is its own other user: with this set it calls an address, with a token or without, and prints what came of it.
const callEnv = "OUTRIGGER_TEST_CALL"

func call(spec string) string {
	how, rest, _ := strings.Cut(spec, ",")
	addr, token, _ := strings.Cut(rest, ",")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if token != "" {
		ctx = metadata.NewOutgoingContext(ctx, metadata.Pairs("outrigger-token", token))
	}
	var cc grpc.ClientConnInterface = newJSON(nowhere{}, addr)
	if how == "grpc" {
		cc = dial(nowhere{}, "passthrough:///"+addr)
	}
	_, err := cachev1.NewCacheClient(cc).Exists(ctx, &cachev1.ExistsRequest{Key: "k"})
	reason, _ := reasonOf(err)
	return status.Code(err).String() + " " + reason
}

// nowhere is for what wants a test and needs little of it.
type nowhere struct{ testing.TB }

func (nowhere) Helper()        {}
func (nowhere) Cleanup(func()) {}
func (nowhere) Fatal(v ...any) { panic(fmt.Sprint(v...)) }

func TestAnotherUserNeedsTheToken(t *testing.T) {
	s := start(t)
	for how, addr := range map[string]string{"grpc": s.grpc, "http": s.http} {
		for token, want := range map[string]string{"": "Unauthenticated TOKEN_REQUIRED", "wrong": "Unauthenticated TOKEN_INVALID", "let me in": "OK "} {
			if os.Geteuid() != 0 {
				t.Log("NOT SHOWN: a real other user, which needs root;", how, "with token", token, "as the own user")
				want = "OK "
			}
			if got := callAs(t, 65534, how+","+addr+","+token); got != want {
				t.Errorf("%s, token %q: %q, want %q", how, token, got, want)
			}
		}
	}
}

func callAs(t *testing.T, uid uint32, spec string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = []string{callEnv + "=" + spec}, "/", &out, &stderr
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return out.String()
}
