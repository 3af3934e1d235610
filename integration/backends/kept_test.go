package backends_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const (
	announced = 2 * time.Second // how soon after its start a sidecar has announced what it was asked for before
	kills     = 3               // of which the best counts: the machine may be busy
)

// TestPublicationsOutliveTheirSidecar: what an application has published, once and in whichever way, stands in the registry again soon after its
// sidecar was killed and started anew, though the application does nothing for it.
func TestPublicationsOutliveTheirSidecar(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, what was published is announced again after kill -9 of the sidecar, the application untouched")
	for _, c := range centrals {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			s := servers.Run(t, c.kind, c.settings...)
			registry := fmt.Sprintf("registry: {default: {driver: "+strings.NewReplacer("USER", s.User, "PASSWORD", s.Password, "etcd: {addr", "ttl: 4s, etcd: {addr").Replace(c.config)+"}}\n", s.Addr())
			looks := harness.Start(t, harness.Options{App: "looks", Config: registry + "mesh: {registry: default, inbound: {advertise: 127.0.0.1}}\n"}).Client().Registry()
			k := &publisher{t: t, looks: looks, port: harness.StartEcho(t, "kept").Port}
			k.publish(registry)
			best := time.Hour
			for range kills {
				best = min(best, k.killed())
			}
			fmt.Printf("%s: %d publications stand again %.2f s after their sidecars are up\n", c.kind, len(k.services), best.Seconds())
			if best > announced {
				t.Errorf("at best after %s, want %s", best, announced)
			}
		})
	}
}

// publisher is an application with publications of each kind, through a sidecar for those of Bolt and one for those of Dubbo.
type publisher struct {
	t        *testing.T
	looks    *client.Registry // another sidecar's
	port     int
	sidecars []*harness.Sidecar
	services []client.Service
}

func (k *publisher) publish(registry string) {
	for _, way := range []struct{ protocol, path, body, said string }{
		{"bolt", "/services/publish", `{"serviceName":"peer.Hello:1.0","protocolType":"bolt","group":null}`, `"success":true`},
		{"dubbo", "/pub", `{"service":{"interface":"peer.Hello","methods":["hello"],"version":"1.2"}}`, `"err_no":0`},
	} {
		control := fmt.Sprint("127.0.0.1:", harness.FreePort(k.t))
		s := harness.Start(k.t, harness.Options{App: "kept-" + way.protocol, AppPort: k.port, Protocol: way.protocol, Config: registry +
			fmt.Sprintf("mesh: {registry: default, inbound: {advertise: 127.0.0.1}, sofarpc: {control: %q, outbound: '127.0.0.1:%d'}}\n", control, harness.FreePort(k.t))})
		k.sidecars = append(k.sidecars, s)
		response, err := http.Post("http://"+control+way.path, "application/json", strings.NewReader(way.body))
		check(k.t, err)
		text, err := io.ReadAll(response.Body)
		check(k.t, err)
		response.Body.Close()
		if !strings.Contains(string(text), way.said) {
			k.t.Fatalf("%s: %s", way.path, text)
		}
	}
	k.services = []client.Service{{Name: "peer.Hello:1.0", Protocol: "bolt"}, {Name: "peer.Hello", Version: "1.2", Protocol: "dubbo"}}
	for _, protocol := range []string{"grpc", "http"} {
		by := client.Service{Name: "by-the-api-" + protocol, Protocol: protocol}
		_, err := k.sidecars[0].Client().Registry().Publish(k.t.Context(), client.Publication{Service: by, Port: k.port})
		check(k.t, err)
		k.services = append(k.services, by)
	}
	k.await(true)
}

// await waits until all services are listed, or none is.
func (k *publisher) await(listed bool) {
	k.t.Helper()
	harness.Eventually(k.t, patience, func() error {
		for _, s := range k.services {
			ctx, cancel := context.WithTimeout(k.t.Context(), callTime)
			r, err := k.looks.Resolve(ctx, s)
			cancel()
			if found := err == nil && len(r.Instances) > 0; found != listed {
				return fmt.Errorf("%s %s is listed: %t; %v", s.Protocol, s.Name, found, err)
			}
		}
		return nil
	})
}

// killed kills the sidecars, waits until nothing of theirs is left in the registry, and answers how long after their new start all stands again.
func (k *publisher) killed() time.Duration {
	k.t.Helper()
	for _, s := range k.sidecars {
		s.Kill()
	}
	k.await(false)
	for i, s := range k.sidecars {
		again, err := harness.Launch(k.t, s.Options)
		check(k.t, err)
		k.sidecars[i] = again
	}
	for _, s := range k.sidecars {
		check(k.t, s.Ready())
	}
	up := time.Now()
	k.await(true)
	return time.Since(up)
}
