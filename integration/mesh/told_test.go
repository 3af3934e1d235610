package mesh

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// TestEachCallIsTold: a call is one line of the access log, one more in the metrics, and a span of the one trace, of each sidecar, in each protocol.
func TestEachCallIsTold(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, one line in the access log, one count in the metrics and one span, of each sidecar")
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			c := harness.StartCollector(t)
			traced := fmt.Sprintf("telemetry: {access_log: stdout, log: {format: json}, tracing: {endpoint: %q, insecure: true, ratio: 1}}\n", c.Address)
			r := &ruled{t: t, w: w, dir: t.TempDir(), more: traced}
			r.start(traced, "v1")
			if err := r.caller()("busy"); err == nil {
				t.Error("a call that is refused did not fail")
			}
			before := 0
			harness.Eventually(t, 20*time.Second, func() error { // all that was called so far is told of
				was := before
				if before = requestsOf(t, r.consumer, w.protocol); before != was || linesOf(t, r.consumer, w.protocol) != before {
					return fmt.Errorf("%d calls in the metrics, after %d; %d lines", before, was, linesOf(t, r.consumer, w.protocol))
				}
				return nil
			})
			const calls = 5
			call := r.caller()
			for range calls {
				if err := call("fine"); err != nil {
					t.Error(err)
				}
			}
			harness.Eventually(t, 20*time.Second, func() error {
				if n, l := requestsOf(t, r.consumer, w.protocol), linesOf(t, r.consumer, w.protocol); n != before+calls || l != n {
					return fmt.Errorf("%d calls are %d in the metrics, and %d lines in the access log stand for %d", calls, n-before, l, n)
				}
				return nil
			})
			if requestsOf(t, r.sidecars[0], w.protocol) < calls {
				t.Error("the provider's sidecar has not counted them")
			}
			harness.Eventually(t, 20*time.Second, func() error {
				if n, l := passed(c.Spans()), linesOf(t, r.consumer, w.protocol); n != l {
					return fmt.Errorf("%d calls have a span of the provider's sidecar under one of the consumer's, of %d; there are %q", n, l, c.Spans())
				}
				return nil
			})
		})
	}
}

// passed is how many spans of the consumer's sidecar have one of the provider's under them, or more where the call was repeated.
func passed(all []harness.Span) (n int) {
	for _, out := range all {
		if strings.HasPrefix(out.What, "consumer outbound ") && slices.ContainsFunc(all, func(in harness.Span) bool {
			return strings.HasPrefix(in.What, "provider-v1 inbound ") && in.Trace == out.Trace && in.Parent == out.ID
		}) {
			n++
		}
	}
	return n
}

// requestsOf is how many calls in a protocol a sidecar has counted.
func requestsOf(t *testing.T, s *harness.Sidecar, protocol string) (n int) {
	t.Helper()
	for line := range strings.Lines(s.Page("/metrics")) {
		if strings.HasPrefix(line, "outrigger_mesh_request_seconds_count") && strings.Contains(line, `protocol="`+protocol+`"`) {
			one := 0
			_, value, _ := strings.Cut(line, "} ")
			fmt.Sscan(value, &one)
			n += one
		}
	}
	return n
}

// linesOf is how many lines of the access log there are of a protocol.
func linesOf(t *testing.T, s *harness.Sidecar, protocol string) (n int) {
	t.Helper()
	for line := range strings.Lines(s.Output()) {
		var entry struct{ Direction, Protocol, Service string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Direction == "outbound" && entry.Protocol == protocol && strings.Contains(entry.Service, askedService) {
			n++
		}
	}
	return n
}

// Two sidecars that want the same address for SOFARPC's listeners: the second does not start, and says which it is.
func TestListenersOfSOFARPCClash(t *testing.T) {
	at := func(host string, port int) string {
		return fmt.Sprintf("registry: {default: {driver: file}}\nmesh: {sofarpc: {control: '%s:%d', outbound: '%[1]s:%[3]d'}}\n", host, port, port+1)
	}
	port := freePort(t)
	harness.Start(t, harness.Options{App: "one", Config: at("127.0.0.7", port)})
	second, err := harness.Launch(t, harness.Options{App: "two", Config: at("127.0.0.7", port)})
	if err != nil {
		t.Fatal(err)
	}
	if code := second.Wait(time.Minute); code != 2 || !strings.Contains(second.Output(), fmt.Sprint("127.0.0.7:", port)) {
		t.Errorf("exit %d: %s", code, second.Output())
	}
	harness.Start(t, harness.Options{App: "two", Config: at("127.0.0.8", port)})
}

// TestMetadataServiceIsRelayed: what Dubbo 3's consumers ask first of an instance in the registry, which is a sidecar, is asked of the application.
func TestMetadataServiceIsRelayed(t *testing.T) {
	w := wires[3]
	r := newRuled(t, w, "", "v1")
	nc := dubboWire
	nc.request = func(id uint32, method string) []byte {
		return dubboRequest(id, "org.apache.dubbo.metadata.MetadataService", "1.0.0", method)
	}
	if err := askFrames(t, r.sidecars[0].Inbound, nc)("getMetadataInfo"); err != nil || r.apps[0].times("getMetadataInfo") != 1 {
		t.Errorf("%v, it came %d times", err, r.apps[0].times("getMetadataInfo"))
	}
}
