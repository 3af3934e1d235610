package mesh

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// headed is a client whose calls have a header, or an attachment, of that name.
func (w wire) headed(t *testing.T, address, name, value string) func() error {
	switch w.protocol {
	case "http":
		c := &http.Client{Timeout: patience, Transport: &http.Transport{}}
		t.Cleanup(c.CloseIdleConnections)
		return func() error {
			req, err := http.NewRequest(http.MethodPost, "http://"+address+"/fine", http.NoBody)
			if err != nil {
				return err
			}
			req.Header.Set("outrigger-service", askedService)
			req.Header.Set(name, value)
			res, err := c.Do(req)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s", res.Status)
			}
			return err
		}
	case "grpc":
		cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cc.Close() })
		return func() error {
			ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "outrigger-service", askedService, name, value), patience)
			defer cancel()
			_, err := echopb.NewEchoClient(cc).Unary(ctx, &echopb.Message{Text: "fine"})
			return err
		}
	}
	p := w.frames()
	plain := p.request
	p.request = func(id uint32, method string) []byte {
		b := plain(id, method)
		if w.protocol == "bolt" { // whose headers come last, as there is no content
			more := lengthPrefixed(name, value)
			binary.BigEndian.PutUint16(b[16:], binary.BigEndian.Uint16(b[16:])+uint16(len(more)))
			return append(b, more...)
		}
		more := hessian(name) + hessian(value) + "Z" // in place of the end of the attachments
		binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+uint32(len(more)-1))
		return append(b[:len(b)-1], more...)
	}
	call := askFrames(t, address, p)
	return func() error { return call("fine") }
}

// byRules has calls go by rules of a migration that look at a header, at its value, and at instances. consumer starts one with such rules; provider
// is the sidecar of the provider that has one.
func (w wire) byRules(t *testing.T, consumer func(migration string) *harness.Sidecar, provider *harness.Sidecar, meshed, itself *answering) {
	ways := func(calls int, call func() error) (through, past int) {
		t.Helper()
		a, b := meshed.times("fine"), itself.times("fine")
		for range calls {
			if err := call(); err != nil {
				t.Errorf("%s: %v", w.protocol, err)
			}
		}
		return meshed.times("fine") - a, itself.times("fine") - b
	}
	started := func(migration string) *harness.Sidecar {
		s := consumer(migration)
		call := w.client(t, s.Outbound)
		harness.Eventually(t, 30*time.Second, func() error {
			if n := instancesOf(s); n != 2 {
				call("fine")
				return fmt.Errorf("%d instances", n)
			}
			return call("fine")
		})
		return s
	}
	one := "{service: " + askedService + ", mesh: "
	by := started(one + "100%, headers: {x-way: mesh}}, " + one + "0%, headers: {x-way: '*'}}, " + one + "50%, sticky: x-user}").Outbound
	if a, b := ways(20, w.headed(t, by, "x-way", "mesh")); a != 20 || b != 0 {
		t.Errorf("by a header to the mesh: %d and %d", a, b)
	}
	if a, b := ways(20, w.headed(t, by, "x-way", "other")); a != 0 || b != 20 {
		t.Errorf("by a header past it: %d and %d", a, b)
	}
	users := map[bool]int{}
	for i := range 40 {
		a, b := ways(5, w.headed(t, by, "x-user", fmt.Sprint("user-", i)))
		if a != 0 && b != 0 || a+b != 5 {
			t.Errorf("user %d is not kept where it was: %d and %d", i, a, b)
		}
		users[a > 0]++
	}
	if users[true] < 8 || users[false] < 8 { // one in 10,000 runs
		t.Errorf("of 40 users %d go through the mesh", users[true])
	}
	call := w.client(t, started(one+"100%, instances: ["+strings.TrimSpace(provider.Inbound)+"]}").Outbound)
	if a, b := ways(20, func() error { return call("fine") }); a != 20 || b != 0 {
		t.Errorf("by an instance: %d and %d", a, b)
	}
	call = w.client(t, started(one+"100%, instances: ['127.0.0.1:9']}").Outbound)
	if a, b := ways(20, func() error { return call("fine") }); a != 0 || b != 20 {
		t.Errorf("by an instance that is not there: %d and %d", a, b)
	}
}
