package grpcproxy

import (
	"testing"
	"testing/synctest"
	"time"
)

// What a connection ends with waits for who writes just then, no longer than that takes, and not at all when everything ends.
func TestLastWords(t *testing.T) {
	for name, goOn := range map[string]func(c *conn){"written": func(c *conn) { c.drain(nil) }, "closed": func(c *conn) { c.r.Close() }} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Relay{}
				r.init()
				defer r.Close()
				relays, peers := MemPipe(1 << 20)
				defer peers.Close()
				c := newConn(r, relays, nil) // c.writing: somebody is at it
				ended := make(chan struct{})
				go func() {
					c.close(connError{codeProtocol, "nonsense"}, newBatch())
					close(ended)
				}()
				synctest.Wait()
				select {
				case <-ended:
					t.Fatal("it does not wait")
				default:
				}
				since := time.Now()
				goOn(c)
				<-ended
				if d := time.Since(since); d != 0 {
					t.Errorf("it has waited for %s more", d)
				}
			})
		})
	}
}
