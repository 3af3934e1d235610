package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/integration/servers"
)

const (
	manyServices  = 5_000
	manyInstances = 20         // of each
	fewInstances  = 10         // of the one service of the other sidecar
	manyPrefix    = "http-of-" // a kind of call: requests for so many services, each chosen by chance
)

// meshMany compares whole requests by a sidecar that knows 10 instances with those by one that knows 100,000 of 5,000 services: requests of one of these, as
// among the 10, and of all of them by chance. Both have their instances from etcd. The servers are the same, since 100,000 are not at hand: each service has all of their addresses.
func meshMany(o options) ([]row, error) {
	if !o.peers && o.slack == 0 {
		return nil, nil // etcd is installed first
	}
	if o.slack == 0 { // a gate has little time
		o.rounds = 2*o.rounds + 1
	}
	o.concurrences = []int{1, 16}
	port, _, err := free()
	if err != nil {
		return nil, err
	}
	server, err := role("serve-http", fmt.Sprint("127.0.0.1:", port), strconv.Itoa(manyInstances))
	if err != nil {
		return nil, err
	}
	defer server.end()
	etcd, err := servers.Start(context.Background(), "etcd", servers.Options{Output: os.Stdout})
	if err != nil {
		return nil, err
	}
	defer etcd.Close()
	few, err := knowing(o, etcd, "few", port, 1, fewInstances)
	if err != nil {
		return nil, err
	}
	defer few.end()
	many, err := knowing(o, etcd, "many", port, manyServices, manyInstances)
	if err != nil {
		return nil, err
	}
	defer many.end()
	kinds := []kind{
		{name: "request-10", target: few.outbound, call: manyPrefix + "1", pids: []int{few.pid()}},
		{name: "request-100k-of-5k", target: many.outbound, call: manyPrefix + strconv.Itoa(manyServices), pids: []int{many.pid()}, against: "request-10"},
		{name: "request-100k-of-one", target: many.outbound, call: manyPrefix + "1", pids: []int{many.pid()}, against: "request-10"},
	}
	rows, samples, err := compared(o, kinds)
	if err != nil {
		return nil, err
	}
	for _, c := range o.concurrences {
		for i, k := range kinds[1:] {
			middle, low, high := paired(samples(i+1, c), samples(0, c), func(s sample) float64 { return s.p50 })
			name := fmt.Sprint(k.name, "-p50-c", c)
			rows = append(rows, row{Name: name, Value: middle, Unit: "of that among 10"}, row{Name: name + "-low", Value: low, Unit: "of that among 10, lower end of 95 %"},
				row{Name: name + "-high", Value: high, Unit: "of that among 10, upper end of 95 %"})
		}
	}
	return rows, nil
}

// paired is the median of the rounds' ratios of a figure, and an interval that has the true one in 19 of 20 cases or more, whatever their distribution.
func paired(a, b []sample, figure func(sample) float64) (middle, low, high float64) {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = figure(a[i]) / figure(b[i])
	}
	slices.Sort(ratios)
	outside, n := 0, float64(len(ratios))
	below := math.Exp2(-n) // that so many or fewer of the rounds lie below the true median
	for term := below; below <= 0.025; below += term {
		outside++
		term *= (n - float64(outside) + 1) / float64(outside)
	}
	outside = max(outside-1, 0)
	return ratios[len(ratios)/2], ratios[outside], ratios[len(ratios)-1-outside]
}

// knowing starts a sidecar that has been asked for each of a number of services, of its own prefix in etcd.
func knowing(o options, etcd *servers.Server, prefix string, port, services, instances int) (*sidecar, error) {
	if err := fill(etcd.Addr(), prefix, port, services, instances); err != nil {
		return nil, err
	}
	config := filepath.Join(o.dir, prefix+".yaml")
	text := fmt.Sprintf("registry: {default: {driver: etcd, options: {etcd: {addresses: [%q]}, prefix: %s/}}}\nmesh: {registry: default}\n", etcd.Addr(), prefix)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s, err := startSidecar(o, "bench-"+prefix, 0, "-config", config)
	if err != nil {
		return nil, err
	}
	for i := range services {
		call, err := manyCaller(s.outbound, func() int { return i })
		if err == nil {
			err = call()
		}
		if err != nil {
			s.end()
			return nil, fmt.Errorf("service %d of %s: %w", i, prefix, err)
		}
	}
	return s, nil
}

// fill writes instances as sidecars do, one to each address of the server.
func fill(etcd, prefix string, port, services, instances int) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + etcd}})
	if err != nil {
		return err
	}
	defer client.Close()
	var puts []clientv3.Op
	for i := range services {
		for n := range instances {
			key := fmt.Sprintf("%s/default//%s/%s/bench", prefix, serviceName(i), url.PathEscape(fmt.Sprintf("127.0.0.%d:%d", n+1, port)))
			value := fmt.Sprintf(`{"weight":100,"metadata":{"outrigger.protocol":"http","outrigger.zone":"zone-%d","label.version":"v1","label.pod":"%s-%d"}}`, n%3, serviceName(i), n)
			if puts = append(puts, clientv3.OpPut(key, value)); len(puts) == 100 || i == services-1 && n == instances-1 {
				if _, err := client.Txn(context.Background()).Then(puts...).Commit(); err != nil {
					return err
				}
				puts = puts[:0]
			}
		}
	}
	return nil
}

func serviceName(i int) string { return fmt.Sprintf("service-%04d", i) }

// manyCaller is httpCaller with the name of a service written into each request.
func manyCaller(target string, next func() int) (func() error, error) {
	request := httpRequest(serviceName(0))
	at := bytes.Index(request, []byte("service-0000")) + len("service-")
	call, err := httpCall(target, request)
	return func() error {
		copy(request[at:], fmt.Sprintf("%04d", next()))
		return call()
	}, err
}

// manyOf is a caller of one of so many services each time.
func manyOf(target, kind string) (func() error, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(kind, manyPrefix))
	if err != nil {
		return nil, err
	}
	return manyCaller(target, func() int { return rand.IntN(n) })
}

// serveAlso has an echo listen at the same port of more addresses of loopback.
func serveAlso(ln net.Listener, h http.Handler, addresses string) error {
	n, err := strconv.Atoi(addresses)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return err
	}
	for i := 2; i <= n; i++ {
		more, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:%s", i, port))
		if err != nil {
			return err
		}
		go http.Serve(more, h)
	}
	return nil
}
