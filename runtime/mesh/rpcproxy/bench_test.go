package rpcproxy_test

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

// BenchmarkHop measures the CPU time of a call of 1 KiB by 16 callers on 4 connections, client and server included: to the server itself,
// through a splice of TCP, and through the relay. What a hop costs is the difference to the first.
func BenchmarkHop(b *testing.B) {
	for _, d := range []rpctest.Dialect{rpctest.Bolt, rpctest.Dubbo} {
		b.Run(d.Name(), func(b *testing.B) {
			s := rpctest.Serve(b, d)
			b.Run("direct", func(b *testing.B) { hop(b, d, s.Addr()) })
			b.Run("splice", func(b *testing.B) { hop(b, d, splice(b, s.Addr())) })
			b.Run("relay", func(b *testing.B) {
				hop(b, d, start(b, d, &rpcproxy.Relay{Strip: "outrigger-"}, s.Addr()).ln.Addr().String())
			})
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func hop(b *testing.B, d rpctest.Dialect, address string) {
	const conns, each = 4, 4
	body := string(make([]byte, 1024))
	var tasks sync.WaitGroup
	begun := cpu()
	for n := range conns {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		calls := b.N / conns
		if n < b.N%conns {
			calls++
		}
		tasks.Go(func() {
			defer nc.Close()
			w := &rpctest.Wire{Conn: nc, Dialect: d}
			request := d.Request(0, false, time.Minute, "echo", body)
			for i := range calls + each { // each answer lets one more request go
				if i < calls {
					d.SetID(request, uint64(i))
					nc.Write(request)
				}
				if i >= min(each, calls) && i-min(each, calls) < calls {
					if _, err := w.Next(); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	tasks.Wait()
	b.ReportMetric(float64((cpu()-begun).Nanoseconds())/float64(b.N)/1000, "cpu-us/call")
}

// splice copies connections to an address.
func splice(b *testing.B, to string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				up, err := net.Dial("tcp", to)
				if err != nil {
					nc.Close()
					return
				}
				go func() { io.Copy(up, nc); up.Close() }()
				io.Copy(nc, up)
				nc.Close()
			}()
		}
	}()
	return ln.Addr().String()
}
