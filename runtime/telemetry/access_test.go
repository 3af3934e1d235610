package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

var entry = Entry{
	Time: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("", 3600)), Direction: "outbound", Protocol: "grpc",
	Service: "stock", Method: "/stock.Stock/Reserve", Source: "shop/orders", Rule: "routes[0]", Upstream: "10.0.0.1:7080",
	Attempts: 2, Flag: "connect-failed", Code: 14, Duration: 1500 * time.Microsecond, BytesIn: 10, BytesOut: 20,
}

func TestAccessLogFormats(t *testing.T) {
	const text = `time=2026-01-02T02:04:05.678901Z direction=outbound protocol=grpc service=stock method=/stock.Stock/Reserve source=shop/orders rule=routes[0] upstream=10.0.0.1:7080 attempts=2 flag=connect-failed code=UNAVAILABLE duration_us=1500 bytes_in=10 bytes_out=20`
	if got := string(appendText(nil, &entry)); got != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
	const asJSON = `{"time":"2026-01-02T02:04:05.678901Z","direction":"outbound","protocol":"grpc","service":"stock","method":"/stock.Stock/Reserve","source":"shop/orders","rule":"routes[0]","upstream":"10.0.0.1:7080","attempts":2,"flag":"connect-failed","code":"UNAVAILABLE","duration_us":1500,"bytes_in":10,"bytes_out":20}`
	if got := string(appendJSON(nil, &entry)); got != asJSON {
		t.Errorf("got  %s\nwant %s", got, asJSON)
	}
	for value, want := range map[string]string{"a b": `"a b"`, "a=b": `"a=b"`, "a\"b": `"a\"b"`, "a\nb": `"a\nb"`, "a\\b": `"a\\b"`, "\x1b[2J": `"\x1b[2J"`, "é": `"é"`} {
		if got := string(appendText(nil, &Entry{Protocol: "http", Code: 200, Method: value})); !strings.Contains(got, " method="+want+" attempts=0 code=200 ") {
			t.Errorf("%q is written in %s", value, got)
		}
	}
}

func FuzzAccessLog(f *testing.F) {
	for _, s := range []string{"plain", "a b", "\"", "\\", "\n\x00\x7f", "\xff", "é\u2028", "x=y"} {
		f.Add(s, 0)
	}
	f.Fuzz(func(t *testing.T, s string, code int) {
		e := Entry{Time: entry.Time, Protocol: s, Service: s, Method: s, Source: s, Rule: s, Upstream: s, Flag: s, Code: code}
		text, line := string(appendText(nil, &e)), appendJSON(nil, &e)
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if want := strings.ToValidUTF8(s, ""); strings.ReplaceAll(s, "\ufffd", "") == want && s != "" && got["method"] != s {
			t.Fatalf("method is %q, expected %q", got["method"], s)
		}
		for i := 0; i < len(text); i++ {
			if text[i] < ' ' || text[i] == 0x7f {
				t.Fatalf("byte %d of %q can break a line or a terminal", i, text)
			}
		}
		if strings.ContainsAny(string(line), "\n\r") {
			t.Fatalf("%q is more than one line", line)
		}
	})
}

func TestAccessLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	for range 2 { // the second run appends
		tel, err := New(t.Context(), config.Telemetry{AccessLog: path, Log: config.Log{Format: "json"}}, Info{Output: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 500 { // of all four together less than may wait
					tel.Access.Write(&entry)
				}
			})
		}
		wg.Wait()
		if err := errors.Join(tel.Close(t.Context()), tel.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		if !json.Valid(s.Bytes()) {
			t.Fatalf("line %d is broken: %s", n, s.Text())
		}
	}
	if n != 4000 {
		t.Errorf("%d lines after the log was closed, expected 4000", n)
	}
}

func TestAccessLogOff(t *testing.T) {
	for _, target := range []string{"", "off"} {
		tel := open(t, config.Telemetry{AccessLog: target}, Info{})
		tel.Access.Write(&entry)
		if tel.Access != nil {
			t.Errorf("%q opened a log", target)
		}
	}
}

// writerFunc writes by a function.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func testLog(out io.Writer, limit int, log io.Writer) (*AccessLog, prometheus.Counter) {
	dropped := prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"})
	return newAccessLog(out, false, limit, slog.New(slog.NewTextHandler(log, nil)), dropped), dropped
}

func TestAccessLogNeverWaitsForItsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		written := 0
		l, dropped := testLog(writerFunc(func(b []byte) (int, error) {
			<-release
			written += strings.Count(string(b), "\n")
			return len(b), nil
		}), 4<<10, io.Discard)
		begun := time.Now()
		for range 1000 {
			l.Write(&entry)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("a stuck output held up requests for %s", took)
		}
		l.mu.Lock()
		if len(l.buf) > 4<<10 {
			t.Errorf("%d bytes are held", len(l.buf))
		}
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closing over a stuck output gives %v", err)
		}
		close(release)
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		lost := int(value(dropped))
		if lost == 0 || lost+written != 1000 {
			t.Errorf("%d lines written, %d counted as dropped, of 1000", written, lost)
		}
		if l.Write(&entry); int(value(dropped)) != lost+1 {
			t.Error("a line after the end is not counted")
		}
	})
}

func TestAccessLogWritesManyLinesAtOnceAndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes int
		var out buffer
		l, _ := testLog(writerFunc(func(b []byte) (int, error) { writes++; return out.Write(b) }), 100<<10, io.Discard)
		for range 100 {
			l.Write(&entry)
		}
		time.Sleep(2 * accessLinger)
		if n := strings.Count(out.String(), "\n"); n != 100 || writes != 1 {
			t.Errorf("%d lines in %d writes after %s", n, writes, 2*accessLinger)
		}
		begun := time.Now()
		for range l.limit/2/len(appendText(nil, &entry)) + 1 {
			l.Write(&entry)
		}
		synctest.Wait()
		if writes != 2 || time.Since(begun) != 0 {
			t.Error("a buffer that is half full waits")
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAccessLogCountsWhatCouldNotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log buffer
		l, dropped := testLog(writerFunc(func(b []byte) (int, error) { return 0, errors.New("disk full") }), maxAccessBytes, &log)
		for range 3 {
			l.Write(&entry)
			time.Sleep(2 * accessLinger)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := value(dropped); n != 3 || strings.Count(log.String(), "disk full") != 1 {
			t.Errorf("%v counted, log is %q", n, log.String())
		}
	})
}

func TestAccessLogDoesNotAllocate(t *testing.T) {
	l, _ := testLog(io.Discard, maxAccessBytes, io.Discard)
	defer l.Close(t.Context())
	if n := testing.AllocsPerRun(1000, func() { l.Write(&entry) }); n >= 1 {
		t.Errorf("%v allocations a line", n)
	}
}

func BenchmarkAccessLog(b *testing.B) {
	for name, format := range map[string]bool{"text": false, "json": true} {
		b.Run(name, func(b *testing.B) {
			l := newAccessLog(io.Discard, format, maxAccessBytes, slog.New(slog.DiscardHandler), prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"}))
			b.ReportAllocs()
			for b.Loop() {
				l.Write(&entry)
			}
			l.Close(b.Context())
		})
	}
}
