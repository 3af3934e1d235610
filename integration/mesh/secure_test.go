package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// spoken is a protocol, with an application that serves it and one that calls.
type spoken struct {
	protocol string
	services string // of the configuration of a provider, besides the one named as it is
	slow     bool   // to start a client takes seconds
	serve    func(t *testing.T) (port int, kill func())
	client   func(t *testing.T, address string) func() error
}

func protocols(t *testing.T) []spoken {
	all := []spoken{{protocol: "http", serve: serveKilled, client: callHTTP}, {protocol: "grpc", serve: serveEcho, client: callEcho}}
	dir := programs["node"].Prepare(t)
	for _, protocol := range []string{"bolt", "dubbo"} {
		service := "{name: peer.Hello, version: \"1.0\", protocol: " + protocol + "}"
		if protocol == "dubbo" { // sofa-rpc-node asks for the group SOFA
			service = "{name: peer.Hello, version: \"1.0\", protocol: dubbo, group: SOFA}"
		}
		all = append(all, spoken{protocol: protocol, slow: true, services: "app: {services: [" + service + "]}\n",
			serve: func(t *testing.T) (int, func()) {
				port := freePort(t)
				return port, startPeer(t, "node", dir, "server", protocol, fmt.Sprint(port)).kill
			},
			client: func(t *testing.T, address string) func() error {
				p := startPeer(t, "node", dir, "client", protocol, address)
				return func() error {
					select {
					case a := <-p.begin("hello", "w", patience):
						if !a.OK || a.Value != "node:w" {
							return errors.New(a.String())
						}
						return nil
					case <-time.After(patience + 10*time.Second):
						return errors.New("no answer")
					}
				}
			}})
	}
	return all
}

func serveKilled(t *testing.T) (int, func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().(*net.TCPAddr).Port, func() { s.Close() }
}

func callHTTP(t *testing.T, address string) func() error {
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	return func() error {
		req, err := http.NewRequest(http.MethodPost, "http://"+address+"/x", http.NoBody)
		if err != nil {
			return err
		}
		req.Host = "provider"
		res, err := c.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err == nil && (res.StatusCode != http.StatusOK || string(text) != "ok") {
			err = fmt.Errorf("%s: %s", res.Status, text)
		}
		return err
	}
}

func serveEcho(t *testing.T) (int, func()) {
	e := harness.StartEcho(t, "one")
	return e.Port, e.Stop
}

func callEcho(t *testing.T, address string) func() error {
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("provider"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, err := echopb.NewEchoClient(cc).Unary(ctx, &echopb.Message{Text: "x"})
		return err
	}
}

// load is calls that are made all the time, and that may all be repeated. None may fail.
type load struct {
	t       *testing.T
	calls   atomic.Int64
	ended   chan struct{}
	workers sync.WaitGroup
}

func begin(t *testing.T, call func() error) *load {
	l := &load{t: t, ended: make(chan struct{})}
	for range 4 {
		l.workers.Go(func() {
			for {
				select {
				case <-l.ended:
					return
				case <-time.After(3 * time.Millisecond):
				}
				if err := call(); err != nil {
					t.Errorf("call %d fails: %v", l.calls.Load(), err)
				}
				l.calls.Add(1)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	select {
	case <-l.ended:
	default:
		close(l.ended)
	}
	l.workers.Wait()
}

// more waits for so many more calls.
func (l *load) more(n int64) {
	l.t.Helper()
	from := l.calls.Load()
	harness.Eventually(l.t, 30*time.Second, func() error {
		if now := l.calls.Load(); now < from+n {
			return fmt.Errorf("%d calls", now-from)
		}
		return nil
	})
}

// secured are sidecars of providers and of a consumer.
type secured struct {
	t         *testing.T
	ca        *authority
	dir       string // of the registry
	s         spoken
	providers []*harness.Sidecar
}

func (b *secured) sidecar(o harness.Options, tls, more string) *harness.Sidecar {
	o.DataDir = b.t.TempDir()
	o.Config = "registry: {default: {driver: file, options: {dir: " + b.dir + "}}}\nmesh: {registry: default, routes: [{service: \"*\", idempotent: true}], " + tls + "}\n" + more
	return harness.Start(b.t, o)
}

func (b *secured) provider(mode string) (s *harness.Sidecar, certificate string, kill func()) {
	port, kill := b.s.serve(b.t)
	certificate = b.t.TempDir()
	b.ca.issue(certificate, "provider")
	s = b.sidecar(harness.Options{App: "provider", AppPort: port, Protocol: b.s.protocol}, b.ca.config(mode, certificate), b.s.services)
	b.providers = append(b.providers, s)
	return s, certificate, kill
}

// holder is a sidecar with the folder of its certificate, and whose that is.
type holder struct {
	*harness.Sidecar
	folder, app string
}

// reissue gives new certificates, with what is trusted now, and waits until they are shown.
func (b *secured) reissue(all []holder) {
	b.t.Helper()
	for _, h := range all {
		serial := b.ca.issue(h.folder, h.app)
		harness.Eventually(b.t, 30*time.Second, func() error {
			if got, err := shown(h.Inbound); err != nil || got != serial {
				return fmt.Errorf("certificate %d of %s is shown, not %d: %v", got, h.app, serial, err)
			}
			return nil
		})
	}
}

// renew moves to another CA under load: all trust both, have certificates of the new one, and trust that one alone. It answers the old one.
func (b *secured) renew(all []holder, l *load) *authority {
	old, next := b.ca, newAuthority(b.t)
	both := append(old.pem(), next.pem()...)
	for _, step := range []struct {
		by    *authority
		trust []byte
	}{{old, both}, {next, both}, {next, next.pem()}} {
		b.ca, step.by.trust = step.by, step.trust
		b.reissue(all)
		l.more(50)
	}
	return old
}

// known waits until the consumer's sidecar takes so many instances for candidates.
func (b *secured) known(consumer *harness.Sidecar, n int) {
	b.t.Helper()
	harness.Eventually(b.t, 30*time.Second, func() error {
		if got := instancesOf(consumer); got != n {
			return fmt.Errorf("%d instances, want %d", got, n)
		}
		return nil
	})
}

// Calls go between real sidecars by mutual TLS in each protocol. New certificates, an application that is killed, and a provider that is killed with its
// sidecar fail none that may be repeated: a second later no call goes there.
func TestMutualTLSOfSidecars(t *testing.T) {
	for _, s := range protocols(t) {
		t.Run(s.protocol, func(t *testing.T) {
			b := &secured{t: t, ca: newAuthority(t), dir: t.TempDir(), s: s}
			first, firstCert, killApp := b.provider("strict")
			certificate := t.TempDir()
			b.ca.issue(certificate, "consumer")
			consumer := b.sidecar(harness.Options{App: "consumer"}, b.ca.config("strict", certificate), "")
			call := s.client(t, consumer.Outbound)
			harness.Eventually(t, 30*time.Second, call)
			if !s.slow && s.client(t, first.Inbound)() == nil {
				t.Error("a call without TLS came in where TLS is a must")
			}
			l := begin(t, call)
			l.more(50)

			holders := []holder{{consumer, certificate, "consumer"}, {first, firstCert, "provider"}}
			b.reissue(holders)
			l.more(50)
			before := b.renew(holders, l)
			if !s.slow { // who has a certificate of the old CA alone is let in no more
				b.ca, before = before, b.ca
				old := t.TempDir()
				b.ca.issue(old, "late")
				late := s.client(t, b.sidecar(harness.Options{App: "late"}, b.ca.config("strict", old), "").Outbound)
				b.ca = before
				if err := late(); err == nil {
					t.Error("a caller with a certificate of a CA that is trusted no more came in")
				}
			}

			second, _, killSecond := b.provider("permissive") // connected with the new certificates
			if !s.slow {
				if err := s.client(t, second.Inbound)(); err != nil {
					t.Errorf("a call without TLS does not come in where it may: %v", err)
				}
			}
			b.provider("strict")
			b.known(consumer, 3)
			l.more(100)

			began := time.Now()
			killApp()
			l.more(100)
			b.known(consumer, 2)
			t.Logf("an application was killed: known after %v", time.Since(began))

			began = time.Now()
			second.Signal(syscall.SIGKILL)
			killSecond()
			l.more(100)
			t.Logf("a provider was killed with its sidecar: 100 calls later after %v", time.Since(began))
			l.end()
			t.Logf("%d calls, failed %v", l.calls.Load(), t.Failed())
		})
	}
}

// instancesOf counts the instances that a sidecar knows of the services it has asked for.
func instancesOf(s *harness.Sidecar) (n int) {
	var info struct{ Services []struct{ Instances int } }
	if ask(s, "/info", &info) != nil {
		return -1
	}
	for _, one := range info.Services {
		n = max(n, one.Instances)
	}
	return n
}
