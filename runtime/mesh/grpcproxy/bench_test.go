package grpcproxy

import (
	"context"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// BenchmarkHop makes 1 KiB unary calls, 16 at a time, directly, through a TCP splice and through a relay, in turns within
// one run, and reports what the hops add to the CPU time of the process. The relay should stay near the splice, and far
// below the bare call, which is what a proxy made of grpc-go would cost twice.
func BenchmarkHop(b *testing.B) {
	e := newEnv(b, func(r *Relay) { r.Margins = 1 })
	direct := client(b, e.saddr)
	defer direct.Close()
	ln := listen(b)
	defer ln.Close()
	go spliceAll(ln, e.saddr)
	spliced := client(b, ln.Addr().String())
	defer spliced.Close()
	e.r.Done = nil
	for name, limit := range map[string]time.Duration{"none": 0, "deadline": time.Second} {
		b.Run(name, func(b *testing.B) { benchHop(b, []*grpc.ClientConn{direct, spliced, e.cc}, limit) })
	}
}

func benchHop(b *testing.B, kinds []*grpc.ClientConn, limit time.Duration) {
	var cpu [3]time.Duration
	const calls = 2000
	for i := range kinds {
		burst(b, kinds[i], calls, limit)
	}
	for b.Loop() {
		for i := range kinds {
			start := cpuTime()
			burst(b, kinds[i], calls, limit)
			cpu[i] += cpuTime() - start
		}
	}
	per := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(b.N*calls) }
	b.ReportMetric(per(cpu[0]), "direct-us/call")
	b.ReportMetric(per(cpu[1]-cpu[0]), "splice-adds-us/call")
	b.ReportMetric(per(cpu[2]-cpu[0]), "relay-adds-us/call")
}

// burst makes calls, each with a deadline unless limit is 0.
func burst(b *testing.B, cc *grpc.ClientConn, calls int, limit time.Duration) {
	body := make([]byte, 1<<10)
	var wg sync.WaitGroup
	const at = 16
	for range at {
		wg.Go(func() {
			for range calls / at {
				ctx, cancel := do(), context.CancelFunc(func() {})
				if limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, limit)
				}
				_, err := unary(ctx, cc, body)
				cancel()
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func spliceAll(ln net.Listener, to string) {
	for {
		a, err := ln.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", to)
		if err != nil {
			a.Close()
			continue
		}
		pipe := func(d, s net.Conn) {
			io.Copy(d, s)
			d.Close()
			s.Close()
		}
		go pipe(a, b)
		go pipe(b, a)
	}
}
