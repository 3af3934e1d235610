package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// refusing is a sidecar whose calls of others all fail at the origin that the request names.
type refusing struct {
	invocationv1.UnimplementedInvocationServer
}

func (refusing) Invoke(ctx context.Context, in *invocationv1.InvokeRequest) (*invocationv1.InvokeResponse, error) {
	if err := grpc.SetTrailer(ctx, metadata.Pairs("outrigger-origin", in.GetService())); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.NotFound, "no pens")
}

// Each service of the API can be called, as its proto files have them.
func TestAllServicesCanBeCalled(t *testing.T) {
	files, err := filepath.Glob("../../proto/outrigger/*/v1/*.proto")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	have, services := strings.Join(methods(), " "), 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range service.FindAllStringSubmatch(string(text), -1) {
			if services++; !strings.Contains(have, m[1]+"/") {
				t.Errorf("%s of %s cannot be called; there are %s", m[1], file, have)
			}
		}
	}
	if services < 9 {
		t.Errorf("%d services are found", services)
	}
}

var service = regexp.MustCompile(`(?m)^service (\w+)`)

// A failed call says who failed, where that is another than the sidecar that was called.
func TestCallSaysWhoFailed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	invocationv1.RegisterInvocationServer(s, refusing{})
	healthpb.RegisterHealthServer(s, health.NewServer())
	go s.Serve(ln)
	defer s.Stop()
	for origin, want := range map[string]string{
		"app":     "NotFound (from the application): no pens\n",
		"peer":    "NotFound (from the other sidecar): no pens\n",
		"sidecar": "NotFound: no pens\n",
	} {
		var out, errs bytes.Buffer
		code := callCommand([]string{"-addr", ln.Addr().String(), "Invocation/Invoke", `{"service":"` + origin + `"}`}, &out, &errs)
		if code != exitFaults || out.Len() > 0 || errs.String() != want {
			t.Errorf("%s: code %d, %q, %q; want %q", origin, code, out.String(), errs.String(), want)
		}
	}
}
