package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// stuck is a sidecar's start that does not come to its end before mend.
type stuck struct {
	*harness.Sidecar
	dir string
}

func (i *instance) replaceStuck(t *testing.T) *stuck {
	t.Helper()
	s := &stuck{dir: filepath.Join(t.TempDir(), "secrets")}
	o := i.sidecar.Options
	o.Args = []string{"-replace"}
	o.Config += "secret: {s: {driver: file, required: true, options: {dir: " + s.dir + "}}}\nreload: {timeout: 1m}\n"
	var err error
	if s.Sidecar, err = harness.Launch(t, o); err != nil {
		t.Fatal(err)
	}
	return s
}

// asked waits until it has the sockets.
func (s *stuck) asked(t *testing.T, old *harness.Sidecar) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		if by := fmt.Sprintf("by_pid=%d", s.PID()); !strings.Contains(old.Output(), by) {
			return errors.New(by + " is not in the log of the old one")
		}
		return nil
	})
}

func (s *stuck) mend(t *testing.T) {
	t.Helper()
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err != nil {
		t.Fatal(err)
	}
}

// goesOn asks what the new one would not answer yet.
func goesOn(t *testing.T, s *harness.Sidecar) {
	t.Helper()
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 50 {
		res, err := fresh.Get("http://" + s.Admin + "/readyz/outbound")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
	}
}

// TestReplacementThatFails kills it at any moment before it is ready, and has it fail by itself; each time the old one goes on.
func TestReplacementThatFails(t *testing.T) {
	all, clients := shop(t, 1, 1)
	clients[0].load(300)
	for _, i := range all {
		old := i.sidecar
		for n := range 6 {
			s := i.replaceStuck(t)
			if n == 0 {
				s.asked(t, old)
				goesOn(t, old)
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			s.Kill()
		}
		o := old.Options
		o.Args = []string{"-replace"}
		faults := map[string]string{"unknown driver": "cache: {a: {driver: no}}\n",
			"/no/such": "secret: {s: {driver: file, required: true, options: {dir: /no/such}}}\nreload: {timeout: 300ms}\n"}
		if i.app != nil {
			faults["could not be told of service"] = "registry: {default: {driver: file, options: {dir: /dev/null}}}\nreload: {timeout: 2s}\n"
		}
		for want, config := range faults {
			o.Config = config
			if _, err := harness.TryStart(t, o); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "exit status 2") {
				t.Error(err)
			}
		}
		o.Args, o.Config = nil, old.Options.Config
		if _, err := harness.TryStart(t, o); err == nil || !strings.Contains(err.Error(), "another sidecar serves") {
			t.Errorf("the lock was lost: %v", err)
		}
		if _, err := os.Stat(old.Socket); err != nil {
			t.Error(err)
		}
		i.replaceAndWait(t)
	}
	clients[0].end(500)
}

// handover speaks as a new sidecar does, by the format that is documented.
type handover struct {
	t  *testing.T
	nc *net.UnixConn
}

func askForSockets(t *testing.T, s *harness.Sidecar) *handover {
	t.Helper()
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: strings.TrimSuffix(s.Socket, ".sock") + ".handover", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return &handover{t, nc}
}

func (h *handover) say(line string) {
	h.t.Helper()
	if _, err := h.nc.Write([]byte(line + "\n")); err != nil {
		h.t.Error(err)
	}
}

// hear reads a line and closes what comes with it.
func (h *handover) hear() (line string, descriptors int) {
	h.t.Helper()
	text, rights := make([]byte, 64<<10), make([]byte, 1<<10)
	h.nc.SetReadDeadline(time.Now().Add(30 * time.Second))
	n, k, _, _, err := h.nc.ReadMsgUnix(text, rights)
	if err != nil {
		h.t.Error(err)
	}
	controls, _ := syscall.ParseSocketControlMessage(rights[:k])
	for _, c := range controls {
		fds, _ := syscall.ParseUnixRights(&c)
		for _, fd := range fds {
			syscall.Close(fd)
			descriptors++
		}
	}
	return string(text[:n]), descriptors
}

// TestHandOverBrokenOff has the new one go at each step.
func TestHandOverBrokenOff(t *testing.T) {
	all, clients := shop(t, 1, 1)
	clients[0].load(300)
	for _, i := range all {
		for name, steps := range map[string]func(h *handover){
			"without a word": func(*handover) {},
			"after the hello": func(h *handover) {
				h.say(`{"handover":1}`)
			},
			"with the sockets": func(h *handover) {
				h.say(`{"handover":1,"version":"later","what":"is new"}`)
				line, n := h.hear()
				var offer struct{ Sockets []struct{ Name string } }
				if err := json.Unmarshal([]byte(line), &offer); err != nil || n != len(offer.Sockets) || n != 9 || offer.Sockets[n-1].Name != "lock" {
					t.Errorf("%d descriptors came with %s", n, line)
				}
			},
			"having said something else": func(h *handover) {
				h.say(`{"handover":1}`)
				h.hear()
				h.say(`{"handover":1,"taken":[]}`)
			},
			"having said nothing sensible": func(h *handover) {
				h.say(`{"handover":1}`)
				h.hear()
				h.say(`}`)
			},
			"in another format": func(h *handover) {
				h.say(`{"handover":2,"version":"9.9"}`)
				if line, n := h.hear(); n != 0 || !strings.Contains(line, "9.9") || !strings.Contains(line, `"error"`) {
					t.Errorf("%d descriptors came with %s", n, line)
				}
			},
		} {
			h := askForSockets(t, i.sidecar)
			steps(h)
			h.nc.Close()
			if err := dialCaller(t, all[1].sidecar.Outbound).call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		i.replaceAndWait(t)
	}
	clients[0].end(200)
}

// TestPredecessorThatGoes ends the old one while the new one starts: what comes meanwhile waits for that.
func TestPredecessorThatGoes(t *testing.T) {
	for name, end := range map[string]func(*harness.Sidecar){
		"killed": (*harness.Sidecar).Kill, "ended in order": func(s *harness.Sidecar) {
			if code := s.Stop(); code != 0 {
				t.Errorf("exit code %d\n%s", code, s.Output())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			all, clients := shop(t, 1, 1)
			i := all[1]
			old := i.sidecar
			next := i.replaceStuck(t)
			next.asked(t, old)
			end(old)
			called := make(chan error, 1)
			go func() { called <- dialCaller(t, old.Outbound).call() }()
			time.Sleep(100 * time.Millisecond)
			next.mend(t)
			if err := <-called; err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(old.Socket); err != nil {
				t.Error(err)
			}
			i.sidecar = next.Sidecar
			harness.Eventually(t, 20*time.Second, clients[0].call)
		})
	}
}

// TestPredecessorThatDoesNotAnswer is stopped when it is asked, and killed after that: the new one starts as if there had been none.
func TestPredecessorThatDoesNotAnswer(t *testing.T) {
	old := harness.Start(t, harness.Options{App: "a"})
	old.Freeze()
	o := old.Options
	o.Args = []string{"-replace"}
	next, err := harness.Launch(t, o)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // for it to ask
	old.Kill()
	if err := next.Ready(); err != nil {
		t.Fatal(err)
	}
	if _, err := next.Client().Cache("").Exists(within(t, 10*time.Second), "k"); err != nil {
		t.Fatal(err)
	}
}
