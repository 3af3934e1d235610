package runtime_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
)

// An application that waits for its sidecar has not finished, however long that takes and whichever way it has asked.
func TestACallUnderWayHoldsTheEnd(t *testing.T) {
	type method = string // TryLock or Lock, of the lock l
	for name, connect := range map[string]func(t *testing.T, s *sidecar) func(method) error{
		"grpc": func(t *testing.T, s *sidecar) func(method) error {
			conn := dial(t, s.grpc)
			return func(m method) error {
				return conn.Invoke(within(t, 50*time.Second), "/outrigger.lock.v1.Lock/"+m, &lockv1.LockRequest{Name: "l"}, &lockv1.LockResponse{})
			}
		},
		"http": func(t *testing.T, s *sidecar) func(method) error {
			client := &http.Client{Transport: &http.Transport{}}
			t.Cleanup(client.CloseIdleConnections)
			return func(m method) error {
				res, err := client.Post("http://"+s.http+"/outrigger.lock.v1.Lock/"+m, "application/json", strings.NewReader(`{"name":"l"}`))
				if err != nil {
					return err
				}
				defer res.Body.Close()
				if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
					return fmt.Errorf("%s %s %v", res.Status, text, err)
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "lock: {default: {driver: local}}\ndrain: {propagation: 10ms, quiet: 1s, max: 50s}\n")
			locks := lockv1.NewLockClient(dial(t, s.grpc))
			var held *lockv1.TryLockResponse
			eventually(t, func() (err error) { // the component may be starting
				held, err = locks.TryLock(within(t, 20*time.Second), &lockv1.TryLockRequest{Name: "l"})
				return err
			})
			call := connect(t, s)
			if err := call("TryLock"); err == nil || !strings.Contains(err.Error(), "another owner holds the lock") {
				t.Fatal(err)
			}
			waits := make(chan error, 1)
			go func() { waits <- call("Lock") }() // it comes before the sidecar takes the application for quiet
			s.signals <- syscall.SIGTERM
			select {
			case err := <-waits:
				t.Fatalf("the call that waits ended with %v", err)
			case <-time.After(3 * time.Second): // drain.quiet, and what the rest of the end may take
			}
			if _, err := locks.Unlock(within(t, 20*time.Second), &lockv1.UnlockRequest{Name: "l", Token: held.GetToken()}); err != nil {
				t.Error(err)
			}
			if err := <-waits; err != nil {
				t.Errorf("the call that waited ended with %v", err)
			}
			// Then it is quiet, and the end comes.
			if err := s.wait(t); err != nil {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
