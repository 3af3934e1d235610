package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

// meshBolt compares a hop of Bolt with MOSN's.
func meshBolt(o options) (rows []row, err error) {
	if !o.peers && o.slack == 0 {
		fmt.Println("mesh-bolt: only -peers builds MOSN, so that nothing is measured beside it")
		return nil, nil
	}
	binary, err := mosnBinary()
	if err != nil {
		return nil, err
	}
	port, address, err := free()
	if err != nil {
		return nil, err
	}
	server, err := role("serve-bolt", address)
	if err != nil {
		return nil, err
	}
	defer server.end()
	_, at, err := free()
	if err != nil {
		return nil, err
	}
	mosn, err := start(binary, at, address, filepath.Join(o.dir, "mosn"))
	if err != nil {
		return nil, err
	}
	defer mosn.end()
	if err := listens("mosn", at); err != nil {
		return nil, err
	}
	config := filepath.Join(o.dir, "bolt.yaml") // since names of applications are none of Bolt's services
	text := fmt.Sprintf("registry: {default: {driver: file}}\napp: {services: [{name: %q, protocol: bolt, port: %d}]}\n", boltService, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	callee, caller, err := startPair(o, "bolt-callee", 0, "-config", config)
	if err != nil {
		return nil, err
	}
	defer callee.end()
	defer caller.end()
	return compare(o, []kind{
		{name: "bolt-direct", target: address, call: "bolt", pids: []int{server.pid()}},
		{name: "bolt-mosn", target: at, call: "bolt", pids: []int{mosn.pid()}, against: "bolt-direct"},
		{name: "bolt-sidecar", target: callee.inbound, call: "bolt", pids: []int{callee.pid()}, against: "bolt-mosn"},
		{name: "bolt-two-sidecars", target: caller.outbound, call: "bolt", pids: []int{callee.pid(), caller.pid()}, hops: 2, against: "bolt-mosn"},
	})
}

// mosnBinary is MOSN in the cache folder, made anew when its module or Go has changed.
func mosnBinary() (string, error) {
	const module = "integration/bench/mosn"
	stamp := runtime.Version()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		stamp += string(text)
	}
	dir, err := install.Made("mosn", stamp, func(dir string) error {
		fmt.Println("building MOSN, which takes some minutes the first time")
		return install.Step(context.Background(), module, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "mosn"), ".")
	})
	return filepath.Join(dir, "mosn"), err
}

const (
	boltService = "bench.Bolt:1.0"

	boltRequest, boltResponse = 22, 20 // bytes of a head of version 1
)

// boltFrame reads one frame: of its head, id and the lengths of what follows stand at the same distance from the end.
func boltFrame(in *bufio.Reader, head int) (frame []byte, id uint32, err error) {
	h, err := in.Peek(head)
	if err != nil {
		return nil, 0, err
	}
	lengths := h[head-8:]
	n := head + int(binary.BigEndian.Uint16(lengths)) + int(binary.BigEndian.Uint16(lengths[2:])) + int(binary.BigEndian.Uint32(lengths[4:]))
	frame = make([]byte, n)
	_, err = io.ReadFull(in, frame)
	return frame, binary.BigEndian.Uint32(frame[5:]), err
}

// serveBolt answers each request with its content, on the connection's own goroutine; what has come together goes back together.
func serveBolt(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			in, out := bufio.NewReaderSize(nc, 64<<10), bufio.NewWriterSize(nc, 64<<10)
			for {
				frame, id, err := boltFrame(in, boltRequest)
				if err != nil {
					return
				}
				class, headers := int(binary.BigEndian.Uint16(frame[14:])), int(binary.BigEndian.Uint16(frame[16:]))
				if frame[3] == 0 { // a heartbeat
					out.Write(boltAnswer(0, id, "", nil))
				} else {
					out.Write(boltAnswer(2, id, "com.alipay.sofa.rpc.core.response.SofaResponse", frame[boltRequest+class+headers:]))
				}
				if in.Buffered() == 0 && out.Flush() != nil {
					return
				}
			}
		}()
	}
}

func boltAnswer(command byte, id uint32, class string, content []byte) []byte {
	b := make([]byte, 0, boltResponse+len(class)+len(content))
	b = append(b, 1, 0, 0, command, 1)
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, 1, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(class)))
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	return append(append(b, class...), content...)
}

// boltAsk is a request of 1 KiB with the headers that SOFARPC's clients send.
func boltAsk() []byte {
	const class = "com.alipay.sofa.rpc.core.request.SofaRequest"
	var headers []byte
	for _, text := range []string{"sofa_head_target_service", boltService, "sofa_head_method_name", "hello", "service", boltService, "protocol", "bolt", "type", "sync"} {
		headers = append(binary.BigEndian.AppendUint32(headers, uint32(len(text))), text...)
	}
	b := []byte{1, 1, 0, 1, 1, 0, 0, 0, 0, 1}
	b = binary.BigEndian.AppendUint32(b, 10_000) // ms
	b = binary.BigEndian.AppendUint16(b, uint16(len(class)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(headers)))
	b = binary.BigEndian.AppendUint32(b, payload)
	return append(append(append(b, class...), headers...), bytes.Repeat([]byte("abcdefgh"), payload/8)...)
}

// boltClient is a connection that several callers share, as those of a process do.
type boltClient struct {
	nc      net.Conn
	mu      sync.Mutex
	next    uint32
	err     error
	waiting map[uint32]chan []byte
}

func newBoltClient(target string) (*boltClient, error) {
	nc, err := net.Dial("tcp", target)
	if err != nil {
		return nil, err
	}
	c := &boltClient{nc: nc, waiting: map[uint32]chan []byte{}}
	go func() {
		in := bufio.NewReaderSize(nc, 64<<10)
		for {
			frame, id, err := boltFrame(in, boltResponse)
			c.mu.Lock()
			if err != nil {
				c.err = err
				for _, answer := range c.waiting {
					close(answer)
				}
				c.mu.Unlock()
				return
			}
			if answer := c.waiting[id]; answer != nil {
				delete(c.waiting, id)
				answer <- frame
			}
			c.mu.Unlock()
		}
	}()
	return c, nil
}

func (c *boltClient) caller() func() error {
	request, answer := boltAsk(), make(chan []byte, 1)
	return func() error {
		c.mu.Lock()
		if c.err != nil {
			c.mu.Unlock()
			return c.err
		}
		c.next++
		binary.BigEndian.PutUint32(request[5:], c.next)
		c.waiting[c.next] = answer
		_, err := c.nc.Write(request)
		c.mu.Unlock()
		if err != nil {
			return err
		}
		frame, ok := <-answer
		if !ok {
			return io.ErrUnexpectedEOF
		}
		if frame[10] != 0 || frame[11] != 0 || len(frame) < boltResponse+payload || !bytes.HasSuffix(frame, request[len(request)-payload:]) {
			return fmt.Errorf("an answer of %d bytes with the status %d: %.300q", len(frame), frame[11], frame[boltResponse:])
		}
		return nil
	}
}
