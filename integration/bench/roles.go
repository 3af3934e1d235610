package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
)

// play runs a process of the benchmark: serve ADDR; naive ADDR UPSTREAM; splice ADDR UPSTREAM; serve-http ADDR [ADDRESSES]; serve-bolt ADDR; reverse ADDR UPSTREAM; load TARGET KIND CONCURRENCY SECONDS.
func play(role string, args []string) error {
	if role == "load" {
		return load(args)
	}
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	switch role {
	case "naive":
		p, err := naive(args[1])
		if err != nil {
			return err
		}
		return p.Serve(ln)
	case "splice":
		return splice(ln, args[1])
	case "serve-bolt":
		return serveBolt(ln)
	case "serve-http", "reverse":
		return playHTTP(role, ln, args[1:])
	}
	s := grpc.NewServer()
	echopb.RegisterEchoServer(s, bareEcho{})
	cachev1.RegisterCacheServer(s, &bareCache{})
	return s.Serve(ln)
}

type bareEcho struct{ echopb.UnimplementedEchoServer }

func (bareEcho) Unary(_ context.Context, in *echopb.Message) (*echopb.Message, error) { return in, nil }

// bareCache is the least that a cache behind grpc-go can do.
type bareCache struct {
	cachev1.UnimplementedCacheServer
	items sync.Map
}

func (s *bareCache) Get(_ context.Context, in *cachev1.GetRequest) (*cachev1.GetResponse, error) {
	v, _ := s.items.Load(in.GetKey())
	value, _ := v.([]byte)
	return &cachev1.GetResponse{Value: value}, nil
}

func (s *bareCache) Set(_ context.Context, in *cachev1.SetRequest) (*cachev1.SetResponse, error) {
	s.items.Store(in.GetKey(), in.GetValue())
	return &cachev1.SetResponse{}, nil
}

// frame is a message that nobody looks into.
type frame struct{ data mem.BufferSlice }

type frames struct{}

var _ encoding.CodecV2 = frames{}

func (frames) Name() string { return "proto" }

func (frames) Marshal(v any) (mem.BufferSlice, error) { return v.(*frame).data, nil }

func (frames) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref()
	v.(*frame).data = data
	return nil
}

// naive is a transparent proxy as one writes it with grpc-go: pooled connection, messages not decoded.
func naive(upstream string) (*grpc.Server, error) {
	conn, err := grpc.NewClient("passthrough:///"+upstream, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frames{})))
	if err != nil {
		return nil, err
	}
	both := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	return grpc.NewServer(grpc.ForceServerCodecV2(frames{}), grpc.UnknownServiceHandler(func(_ any, down grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(down)
		md, _ := metadata.FromIncomingContext(down.Context())
		ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(down.Context(), md))
		defer cancel()
		up, err := conn.NewStream(ctx, both, method)
		if err != nil {
			return err
		}
		go requests(down, up, cancel)
		return answers(down, up)
	})), nil
}

func requests(down grpc.ServerStream, up grpc.ClientStream, cancel func()) {
	for {
		var f frame
		if err := down.RecvMsg(&f); errors.Is(err, io.EOF) {
			up.CloseSend()
			return
		} else if err != nil {
			cancel()
			return
		}
		if up.SendMsg(&f) != nil {
			return
		}
	}
}

func answers(down grpc.ServerStream, up grpc.ClientStream) error {
	for first := true; ; first = false {
		var f frame
		err := up.RecvMsg(&f)
		if h, e := up.Header(); first && e == nil {
			down.SetHeader(h)
		}
		if err != nil {
			down.SetTrailer(up.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := down.SendMsg(&f); err != nil {
			return err
		}
	}
}

// splice copies bytes within the kernel and knows nothing of what they are.
func splice(ln net.Listener, upstream string) error {
	for {
		down, err := ln.Accept()
		if err != nil {
			return err
		}
		up, err := net.Dial("tcp", upstream)
		if err != nil {
			return err
		}
		pass := func(to, from net.Conn) {
			io.Copy(to, from)
			to.Close()
			from.Close()
		}
		go pass(up, down)
		go pass(down, up)
	}
}

// measured is what load prints.
type measured struct {
	Calls, Failed int
	Seconds       float64
	P50, P99      float64 // microseconds
	Last          string  // of the errors
}

const payload = 1024 // bytes

// load calls in a loop and prints what it saw.
func load(args []string) error {
	target, kind := args[0], args[1]
	c, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	length, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	conns := make([]*grpc.ClientConn, min(c, 4))
	for i := range conns {
		if conns[i], err = grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			return err
		}
	}
	if strings.HasPrefix(kind, deliverPrefix) {
		return deliver(conns, kind, c, length)
	}
	bolts := make([]*boltClient, len(conns))
	for i := range bolts {
		if kind == "bolt" {
			if bolts[i], err = newBoltClient(target); err != nil {
				return err
			}
		}
	}
	calls := make([]func() error, c)
	for i := range calls {
		if kind == "bolt" {
			calls[i] = bolts[i%len(bolts)].caller()
		} else if kind == "http" {
			calls[i], err = httpCaller(target)
		} else if strings.HasPrefix(kind, manyPrefix) {
			calls[i], err = manyOf(target, kind)
		} else {
			calls[i], err = caller(conns[i%len(conns)], kind)
		}
		if err != nil {
			return err
		}
	}
	rate := 0.0
	if _, text, ok := strings.Cut(kind, "@"); ok {
		if rate, err = strconv.ParseFloat(text, 64); err != nil {
			return err
		}
	}
	loop(calls, 300*time.Millisecond, rate)
	fmt.Fprintln(os.Stderr, "warm") // the measurement begins
	m := loop(calls, length, rate)
	return json.NewEncoder(os.Stdout).Encode(m)
}

func caller(conn *grpc.ClientConn, kind string) (func() error, error) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "outrigger-service", "echo")
	value := make([]byte, payload)
	items, echo := cachev1.NewCacheClient(conn), echopb.NewEchoClient(conn)
	set := func() error {
		_, err := items.Set(context.Background(), &cachev1.SetRequest{Key: "k", Value: value})
		return err
	}
	if strings.HasPrefix(kind, "state-") {
		return stateCaller(conn, kind, value)
	}
	if component, ok := strings.CutPrefix(kind, "publish-"); ok {
		return publisher(conn, component, value), nil
	}
	if strings.HasPrefix(kind, "tx-") || strings.HasPrefix(kind, directDTM) {
		return txCaller(conn, kind)
	}
	if call := lockCaller(conn, kind); call != nil {
		return call, nil
	}
	if call, err := backendCaller(conn, kind, value); call != nil || err != nil {
		return call, err
	}
	switch kind {
	case "get":
		return func() error {
			out, err := items.Get(context.Background(), &cachev1.GetRequest{Key: "k"})
			if err == nil && len(out.GetValue()) != payload {
				err = fmt.Errorf("%d bytes", len(out.GetValue()))
			}
			return err
		}, set()
	case "set":
		return set, nil
	case "echo":
		return func() error {
			out, err := echo.Unary(ctx, &echopb.Message{Data: value})
			if err == nil && len(out.GetData()) != payload {
				err = fmt.Errorf("%d bytes", len(out.GetData()))
			}
			return err
		}, nil
	}
	return nil, fmt.Errorf("unknown kind %q", kind)
}

// loop makes each call again as soon as it has ended, or, at a rate of so many a second of all, when it is its turn: what it begins late
// counts as its time, too.
func loop(calls []func() error, length time.Duration, rate float64) measured {
	var mu sync.Mutex
	var all []float64
	var m measured
	var wg sync.WaitGroup
	began := time.Now()
	for i, call := range calls {
		wg.Go(func() {
			var took []float64
			failed, last := 0, ""
			turn := func(n int) time.Time {
				return began.Add(time.Duration(float64(n*len(calls)+i) / rate * float64(time.Second)))
			}
			t := time.Now()
			for n := 0; t.Sub(began) < length; n++ {
				if rate > 0 {
					t = turn(n)
					time.Sleep(time.Until(t))
				}
				err := call()
				now := time.Now()
				if err != nil {
					failed, last = failed+1, err.Error()
				} else {
					took = append(took, float64(now.Sub(t).Nanoseconds())/1e3)
				}
				t = now
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if m.Failed += failed; last != "" {
				m.Last = last
			}
		})
	}
	wg.Wait()
	m.Seconds, m.Calls = time.Since(began).Seconds(), len(all)
	if slices.Sort(all); len(all) > 0 {
		m.P50, m.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return m
}
