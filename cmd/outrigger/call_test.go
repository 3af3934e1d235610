package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
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

// repeating answers each message of a subscription with its topic, and says in the end how many there were.
type repeating struct {
	pubsubv1.UnimplementedPubSubServer
}

func (repeating) Subscribe(s pubsubv1.PubSub_SubscribeServer) error {
	for n := 0; ; n++ {
		in, err := s.Recv()
		if err == io.EOF {
			return status.Errorf(codes.Aborted, "%d messages", n)
		} else if err != nil {
			return err
		}
		if err := s.Send(&pubsubv1.SubscribeResponse{Message: &pubsubv1.SubscribeResponse_Delivery_{
			Delivery: &pubsubv1.SubscribeResponse_Delivery{Topic: in.GetStart().GetTopic()}}}); err != nil {
			return err
		}
	}
}

// A stream of requests stays open behind those that are given, and ends with standard input where that is read.
func TestCallOfAStreamInBothDirections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pubsubv1.RegisterPubSubServer(s, repeating{})
	healthpb.RegisterHealthServer(s, health.NewServer())
	go s.Serve(ln)
	defer s.Stop()
	m, err := method("PubSub/Subscribe")
	if err != nil {
		t.Fatal(err)
	}
	const one, two = `{"start":{"topic":"one"}}`, `{"start":{"topic":"two"}}`
	for name, c := range map[string]struct {
		args    []string
		stdin   string
		reading time.Duration
		topics  string
		err     string
	}{
		"given":              {[]string{one, two}, "", 500 * time.Millisecond, "one two", ""},
		"read":               {[]string{"-"}, one + two, 0, "one two", "2 messages"},
		"given and read":     {[]string{one, "-"}, "\n" + two + "\n", 0, "one two", "2 messages"},
		"read, and no JSON":  {[]string{one, "-"}, "two", 0, "", "standard input: invalid character"},
		"read, and misspelt": {[]string{one, "-"}, `{"strat":{}}`, 0, "", "standard input: the request is no outrigger.pubsub.v1.SubscribeRequest"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			in, err := requestsOf(m, c.args, strings.NewReader(c.stdin))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err = call(conn, m, in, 0, c.reading, &out)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v; want %q", err, c.err)
			}
			var topics []string
			for _, found := range topic.FindAllStringSubmatch(out.String(), -1) {
				topics = append(topics, found[1])
			}
			if got := strings.Join(topics, " "); c.topics != "" && (got != c.topics || strings.Count(out.String(), "\n") != 2) {
				t.Errorf("%q, want the topics %s, one a line", out.String(), c.topics)
			}
		})
	}
	if _, err := requestsOf(m, []string{"{"}, nil); err == nil {
		t.Error("half a request is taken")
	}
}

var topic = regexp.MustCompile(`"topic":"(\w+)"`)
