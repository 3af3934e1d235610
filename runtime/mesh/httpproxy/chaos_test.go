package httpproxy

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mrand "math/rand"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestChaos: clients and servers end at random points; no client may ever get what belongs to another.
func TestChaos(t *testing.T) {
	var served, cut atomic.Int64
	up := rawUp(t, func(nc net.Conn, br *bufio.Reader) {
		rnd := mrand.New(mrand.NewSource(time.Now().UnixNano()))
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			die := rnd.Intn(12)
			if die == 0 {
				return
			}
			b, err := io.ReadAll(r.Body)
			if err != nil || die == 1 {
				return
			}
			id := r.Header.Get("X-Id")
			body := id + ":" + string(b)
			var out string
			switch rnd.Intn(4) {
			case 0:
				out = fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-T: %s\r\n\r\n", id, len(body), body, id)
			case 1:
				out = fmt.Sprintf("HTTP/1.1 103 Early Hints\r\nX-Id: %s\r\n\r\nHTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, id, len(body), body)
			default:
				out = fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(body), body)
			}
			if r.Method == "HEAD" {
				out = fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n", id, len(body))
			}
			switch die {
			case 2:
				io.WriteString(nc, out[:rnd.Intn(len(out))])
				return
			case 3: // more than was asked for
				io.WriteString(nc, out+"HTTP/1.1 200 OK\r\nX-Id: evil\r\nContent-Length: 4\r\n\r\nevil")
			case 4: // in two parts
				k := rnd.Intn(len(out))
				io.WriteString(nc, out[:k])
				time.Sleep(time.Duration(rnd.Intn(3)) * time.Millisecond)
				io.WriteString(nc, out[k:])
			case 5: // an end that is not announced
				io.WriteString(nc, out)
				return
			case 6:
				io.WriteString(nc, out)
				time.Sleep(time.Duration(rnd.Intn(2)) * time.Millisecond)
				nc.(*net.TCPConn).SetLinger(0)
				return
			default:
				io.WriteString(nc, out)
			}
		}
	})
	g := newRig(t, up)
	var wg sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	for i := range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := mrand.New(mrand.NewSource(int64(i)))
			for k := 0; time.Now().Before(end); {
				nc, err := net.Dial("tcp", g.addr)
				if err != nil {
					t.Error(err)
					return
				}
				nc.SetDeadline(time.Now().Add(10 * time.Second))
				br := bufio.NewReader(nc)
				for {
					k++
					id := fmt.Sprint(i, "-", k)
					body := strings.Repeat(hex.EncodeToString([]byte(id)), 1+rnd.Intn(3)*rnd.Intn(3000))
					m := []string{"GET", "PUT", "POST", "HEAD"}[rnd.Intn(4)]
					rq := fmt.Sprintf("%s / HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", m, id, len(body), body)
					if rnd.Intn(3) == 0 {
						rq = fmt.Sprintf("%s / HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", m, id, len(body), body)
					}
					if rnd.Intn(15) == 0 {
						io.WriteString(nc, rq[:rnd.Intn(len(rq))])
						break
					}
					if _, err := io.WriteString(nc, rq); err != nil || rnd.Intn(15) == 0 {
						break
					}
					var rp *http.Response
					for rp == nil || rp.StatusCode < 200 {
						if rp, err = http.ReadResponse(br, &http.Request{Method: m}); err != nil {
							break
						}
						if got := rp.Header.Get("X-Id"); got != id && rp.StatusCode < 500 {
							t.Errorf("%s got the response of %s", id, got)
						}
					}
					if err != nil {
						if errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "timeout") {
							t.Error(err)
						}
						cut.Add(1)
						break
					}
					b, err := io.ReadAll(rp.Body)
					if err != nil {
						cut.Add(1)
						break
					}
					if rp.StatusCode == 200 && m != "HEAD" && string(b) != id+":"+body {
						t.Errorf("%s got %d bytes that are not its own", id, len(b))
					}
					if served.Add(1); rp.Close {
						break
					}
				}
				nc.Close()
			}
		}()
	}
	wg.Wait()
	t.Log(served.Load(), "served,", cut.Load(), "cut")
	if err := g.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	for range 100 {
		if runtime.NumGoroutine() < 20 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error(runtime.NumGoroutine(), "goroutines left")
}
