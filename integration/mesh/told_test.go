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

// telling are the sidecars of a consumer and of a provider, and where their spans go.
type telling struct {
	t                  *testing.T
	consumer, provider *harness.Sidecar
	protocol, service  string
	spans              *harness.Collector
}

// count is how many calls each sidecar tells of, in its metrics, its access log and its spans alike.
type count struct{ out, in int }

// settled waits until the three agree, at each sidecar, and a trace that began at the consumer's goes on at the provider's.
func (l telling) settled() (now count) {
	l.t.Helper()
	was := count{-1, -1}
	harness.Eventually(l.t, 20*time.Second, func() error {
		was, now = now, count{requestsOf(l.t, l.consumer, "outbound", l.protocol), requestsOf(l.t, l.provider, "inbound", l.protocol)}
		all := l.spans.Spans()
		lines := count{l.lines(l.consumer, "outbound"), l.lines(l.provider, "inbound")}
		spans := count{spansOf(all, "consumer outbound "), spansOf(all, l.provider.Options.App+" inbound ")}
		if now != was || now != lines || now != spans {
			return fmt.Errorf("calls out and in: %d in the metrics, after %d; %d lines in the access logs, %d spans; there are %q", now, was, lines, spans, all)
		}
		if n := passed(all); l.protocol != "tcp" && n != now.out { // which has nothing that a trace could go on in
			return fmt.Errorf("%d of %d calls have a span of the provider's sidecar under one of the consumer's; there are %q", n, now.out, all)
		}
		return nil
	})
	return now
}

// told has calls made, each of which is one more at each sidecar.
func (l telling) told(calls int, call func() error) {
	l.t.Helper()
	before := l.settled()
	for range calls {
		if err := call(); err != nil {
			l.t.Error(err)
		}
	}
	harness.Eventually(l.t, 20*time.Second, func() error { // the last may not have been counted yet
		if now := l.settled(); now.out < before.out+calls || now.in < before.in+calls {
			return fmt.Errorf("%d calls are told of as %d, after %d", calls, now, before)
		}
		return nil
	})
	if now := l.settled(); now.out != before.out+calls || now.in != before.in+calls {
		l.t.Errorf("%d calls are told of as %d, after %d", calls, now, before)
	}
}

// tracing has a sidecar tell of each call everywhere.
func tracing(c *harness.Collector) string {
	return fmt.Sprintf("telemetry: {access_log: stdout, log: {format: json}, tracing: {endpoint: %q, insecure: true, ratio: 1}}\n", c.Address)
}

// TestEachCallIsTold: a call is one line of the access log, one more in the metrics, and a span of the one trace, of each sidecar, in each protocol.
func TestEachCallIsTold(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo tcp, one line in the access log, one count in the metrics and one span, of each sidecar")
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			c := harness.StartCollector(t)
			r := &ruled{t: t, w: w, dir: t.TempDir(), more: tracing(c)}
			r.start(tracing(c), "v1")
			if err := r.caller()("busy"); err == nil {
				t.Error("a call that is refused did not fail")
			}
			call := r.caller()
			telling{t, r.consumer, r.sidecars[0], w.protocol, askedService, c}.told(5, func() error { return call("fine") })
		})
	}
	t.Run("tcp", func(t *testing.T) {
		t.Parallel()
		c, at := harness.StartCollector(t), freePort(t)
		r := &ruled{t: t, dir: t.TempDir()}
		port, _ := answerTCP(t)
		provider := harness.Start(t, harness.Options{App: "provider", Config: r.registry() + tracing(c) + fmt.Sprintf("app: {services: [{name: db, protocol: tcp, port: %d}]}\n", port)})
		consumer := harness.Start(t, harness.Options{App: "consumer", Config: r.registry() + tracing(c) + fmt.Sprintf("mesh: {outbound: {tcp: [{service: db, address: '127.0.0.1:%d'}]}}\n", at)})
		call := func() error { return exchange(fmt.Sprint("127.0.0.1:", at), []byte("x")) }
		harness.Eventually(t, 30*time.Second, call)
		telling{t, consumer, provider, "tcp", "db", c}.told(5, call)
	})
}

func spansOf(all []harness.Span, what string) (n int) {
	for _, one := range all {
		if strings.HasPrefix(one.What, what) {
			n++
		}
	}
	return n
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

// requestsOf is how many calls of a direction and a protocol a sidecar has counted.
func requestsOf(t *testing.T, s *harness.Sidecar, direction, protocol string) (n int) {
	t.Helper()
	for line := range strings.Lines(s.Page("/metrics")) {
		if strings.HasPrefix(line, "outrigger_mesh_request_seconds_count") && strings.Contains(line, `protocol="`+protocol+`"`) && strings.Contains(line, `direction="`+direction+`"`) {
			one := 0
			_, value, _ := strings.Cut(line, "} ")
			fmt.Sscan(value, &one)
			n += one
		}
	}
	return n
}

// lines is how many lines of the access log there are of a direction.
func (l telling) lines(s *harness.Sidecar, direction string) (n int) {
	for line := range strings.Lines(s.Output()) {
		var entry struct{ Direction, Protocol, Service string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Direction == direction && entry.Protocol == l.protocol && strings.Contains(entry.Service, l.service) {
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
