package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

// mesh compares a hop of each protocol with other proxies.
func mesh(o options) (rows []row, err error) {
	port, address, err := free()
	if err != nil {
		return nil, err
	}
	server, err := role("serve-http", address)
	if err != nil {
		return nil, err
	}
	defer server.end()
	kinds := []kind{{name: "http-direct", target: address, call: "http", pids: []int{server.pid()}}}
	for _, name := range []string{"splice", "reverse"} {
		_, at, err := free()
		if err != nil {
			return nil, err
		}
		p, err := role(name, at, address)
		if err != nil {
			return nil, err
		}
		defer p.end()
		kinds = append(kinds, kind{name: "http-" + name, target: at, call: "http", pids: []int{p.pid()}, against: "http-direct"})
	}
	beside := "http-reverse"
	if o.peers || o.slack > 0 {
		if err := (install.Tool{Name: "nginx", Packages: "nginx-light"}).Need(context.Background()); err != nil {
			return nil, err
		}
	}
	switch p, at, err := nginx(o, address); {
	case err == nil:
		defer p.end()
		beside = "http-nginx"
		kinds = append(kinds, kind{name: beside, target: at, call: "http", pids: []int{p.pid()}, against: "http-direct"})
	case errors.Is(err, exec.ErrNotFound):
		fmt.Println("mesh: nginx is not installed, so that nothing is measured beside it")
	default:
		return nil, err
	}
	callee, caller, err := startPair(o, "stock", port, "-app-protocol", "http")
	if err != nil {
		return nil, err
	}
	defer callee.end()
	defer caller.end()
	rows, of, err := compared(o, append(kinds,
		kind{name: "http-sidecar", target: callee.inbound, call: "http", pids: []int{callee.pid()}, against: beside},
		kind{name: "http-two-sidecars", target: caller.outbound, call: "http", pids: []int{callee.pid(), caller.pid()}, hops: 2, against: beside}))
	for _, c := range o.concurrences {
		if err == nil && beside == "http-nginx" {
			_, low, high := paired(of(len(kinds), c), of(len(kinds)-1, c), func(s sample) float64 { return s.cpu })
			name := fmt.Sprint("http-to-nginx-c", c)
			rows = append(rows, row{Name: name + "-low", Value: low, Unit: "of nginx's CPU, lower end of 95 %"}, row{Name: name + "-high", Value: high, Unit: "of nginx's CPU, upper end of 95 %"})
		}
	}
	return rows, err
}

// nginxConf is one process that keeps its connections, as the sidecar does.
const nginxConf = `daemon off; master_process off; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 100000000; client_max_body_size 0;
 client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
 upstream u { server %[3]s; keepalive 128; keepalive_requests 100000000; }
 server { listen %[2]s; location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; } } }
`

func nginx(o options, upstream string) (*process, string, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return nil, "", exec.ErrNotFound
		}
	}
	_, at, err := free()
	if err != nil {
		return nil, "", err
	}
	conf := filepath.Join(o.dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, o.dir, at, upstream), 0o600); err != nil {
		return nil, "", err
	}
	cmd := exec.Command(path, "-c", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	p := &process{cmd}
	for range 250 {
		if nc, err := net.Dial("tcp", at); err == nil {
			nc.Close()
			return p, at, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.end()
	return nil, "", errors.New("nginx does not listen")
}

// playHTTP serves the roles of HTTP: an echo, and httputil's proxy before it.
func playHTTP(role string, ln net.Listener, args []string) error {
	if role == "serve-http" {
		echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Write(b)
		})
		if len(args) > 0 {
			if err := serveAlso(ln, echo, args[0]); err != nil {
				return err
			}
		}
		return http.Serve(ln, echo)
	}
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: args[0]})
	p.Transport = &http.Transport{MaxIdleConnsPerHost: 256}
	return http.Serve(ln, p)
}

// httpCaller posts 1 KiB on a connection of its own and reads it back.
func httpCaller(target string) (func() error, error) { return httpCall(target, httpRequest("stock")) }

func httpRequest(host string) []byte {
	body := bytes.Repeat([]byte("abcdefgh"), payload/8)
	return fmt.Appendf(nil, "POST /echo HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s", host, len(body), body)
}

func httpCall(target string, request []byte) (func() error, error) {
	nc, err := net.Dial("tcp", target)
	if err != nil {
		return nil, err
	}
	in, got := bufio.NewReaderSize(nc, 16<<10), make([]byte, payload)
	return func() error {
		if _, err := nc.Write(request); err != nil {
			return err
		}
		length := ""
		for first := true; ; first = false {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return err
			}
			if first && string(line[9:12]) != "200" {
				return fmt.Errorf("%q", line)
			}
			if len(line) == 2 {
				break
			}
			if name, value, ok := strings.Cut(string(line), ":"); ok && strings.EqualFold(name, "content-length") {
				length = strings.TrimSpace(value)
			}
		}
		if length != fmt.Sprint(payload) {
			return fmt.Errorf("an answer of %q bytes", length)
		}
		_, err := io.ReadFull(in, got)
		return err
	}, nil
}
