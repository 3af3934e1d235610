// Command go does nine things that an application does with its sidecar, over the SDK. It is started by the sidecar:
//
//	outrigger run -app-id tour -app-port 8085 -app-protocol grpc -- go run ./examples/tour/go 8085
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/examples/tour/tourpb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

const limit = 20 * time.Second // of each step

var run = fmt.Sprintf("tour-go-%d", time.Now().UnixNano()) // so that the tour can be taken again

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go PORT")
	}
	if err := take(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
	fmt.Println("tour: 9 steps done")
}

func take(ctx context.Context, port string) error {
	sidecar, err := client.Dial(ctx)
	if err != nil {
		return err
	}
	defer sidecar.Close()
	callers, stop, err := serve(port, sidecar)
	if err != nil {
		return err
	}
	defer stop()
	for i, step := range []struct {
		text string // with what the step saw
		do   func(context.Context, *client.Client) (string, error)
	}{
		{"call a service: %s", call},
		{"be called: by %s", func(context.Context, *client.Client) (string, error) { return <-callers, nil }},
		{"cache: %s", cache},
		{"state: the old version is refused, %s", state},
		{"config: %s", config},
		{"events: %s", events},
		{"lock: the old token is refused, %s", lock},
		{"schedule: %s fired", schedule},
		{"transaction: %s", transaction},
	} {
		ctx, cancel := context.WithTimeout(ctx, limit)
		seen, err := step.do(ctx, sidecar)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		fmt.Printf("%d "+step.text+"\n", i+1, seen)
	}
	return nil
}

// greeter is the application's own service: plain gRPC.
type greeter struct {
	tourpb.UnimplementedGreeterServer
	callers chan string
	state   *client.State
}

func (g *greeter) Greet(ctx context.Context, in *tourpb.GreetRequest) (*tourpb.GreetResponse, error) {
	if b, ok := client.BranchFrom(ctx); ok {
		if err := g.branch(ctx, in.GetName(), b); err != nil {
			return nil, err
		}
	} else {
		g.callers <- in.GetName()
	}
	return &tourpb.GreetResponse{Text: "hello, " + in.GetName()}, nil
}

// branch is one of a saga: what it writes is written once, whatever call is repeated or late. Two cannot be done.
func (g *greeter) branch(ctx context.Context, name string, b client.Branch) error {
	if name == "two" && b.Op == "action" {
		return client.BranchFailed("not today")
	}
	_, err := g.state.Transact(ctx, client.Transaction{Barrier: b.Barrier(), Operations: []client.Operation{
		client.SetKey(run+"-"+name, client.Item{Value: []byte(b.Op)})}})
	return err
}

func serve(port string, sidecar *client.Client) (callers <-chan string, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, nil, err
	}
	g := &greeter{callers: make(chan string, 1), state: sidecar.State("default")}
	s := grpc.NewServer()
	tourpb.RegisterGreeterServer(s, g)
	go s.Serve(ln)
	return g.callers, s.Stop, nil
}

// call calls an application by its name. Until it is known, which takes a moment after its start, calls are refused.
func call(ctx context.Context, sidecar *client.Client) (string, error) {
	stub := tourpb.NewGreeterClient(sidecar.Conn("tour"))
	for {
		out, err := stub.Greet(ctx, &tourpb.GreetRequest{Name: "sidecar"})
		if err == nil || ctx.Err() != nil || client.Reason(err) == "" {
			return out.GetText(), err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func cache(ctx context.Context, sidecar *client.Client) (string, error) {
	c := sidecar.Cache("default")
	if _, err := c.Set(ctx, run, client.Item{Value: []byte("41"), TTL: time.Minute}); err != nil {
		return "", err
	}
	n, err := c.Increment(ctx, run, 1, 0)
	return fmt.Sprint(n), err
}

// state changes a value only if nobody else has meanwhile.
func state(ctx context.Context, sidecar *client.Client) (string, error) {
	s := sidecar.State("default")
	old, err := s.Set(ctx, run, client.Item{Value: []byte("1")})
	if err != nil {
		return "", err
	}
	if _, err := s.Set(ctx, run, client.Item{Value: []byte("2")}, client.IfVersion(old)); err != nil {
		return "", err
	}
	_, err = s.Set(ctx, run, client.Item{Value: []byte("2")}, client.IfVersion(old))
	return refused(err)
}

// refused is the reason for which a call was refused.
func refused(err error) (string, error) {
	if reason := client.Reason(err); reason != "" {
		return reason, nil
	}
	return "", fmt.Errorf("it was not refused with a reason: %w", err)
}

// config sees a setting change.
func config(ctx context.Context, sidecar *client.Client) (string, error) {
	c := sidecar.Config("default")
	if _, err := c.Set(ctx, client.ConfigItem{Key: run, Value: []byte("hello")}); err != nil {
		return "", err
	}
	var seen []string
	for change, err := range c.Watch(ctx, run) {
		if err != nil {
			return "", err
		}
		seen = append(seen, string(change.Item.Value))
		if seen[len(seen)-1] == "servus" {
			break
		}
		if _, err := c.Set(ctx, client.ConfigItem{Key: run, Value: []byte("servus")}); err != nil {
			return "", err
		}
	}
	return strings.Join(seen, ", then "), nil
}

// events publishes, and has each event handled: what its handler answers nil to does not come again.
func events(ctx context.Context, sidecar *client.Client) (string, error) {
	p := sidecar.PubSub("default")
	var three []client.Event
	for _, text := range []string{"1", "2", "3"} {
		three = append(three, client.Event{Data: []byte(text), OrderingKey: "tour"})
	}
	published, err := p.PublishMany(ctx, run, three...)
	for _, result := range published {
		err = errors.Join(err, result.Err)
	}
	if err != nil {
		return "", err
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	var seen []string
	err = p.Subscribe(ctx, run, client.SubscribeOptions{Earliest: true}, func(_ context.Context, e client.Event) error {
		if seen = append(seen, string(e.Data)); len(seen) == len(three) {
			enough()
		}
		return nil
	})
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return strings.Join(seen, " "), err
}

// lock writes under a lock; who held it before is refused.
func lock(ctx context.Context, sidecar *client.Client) (string, error) {
	write := func(fence client.Fence) error {
		_, err := sidecar.State("default").Set(ctx, run, client.Item{Value: []byte("mine")}, fence)
		return err
	}
	var fences []client.Fence
	for range 2 {
		held, err := sidecar.Lock("default").Acquire(ctx, run, 10*time.Second)
		if err != nil {
			return "", err
		}
		fences = append(fences, held.Fence())
		if err := errors.Join(write(held.Fence()), held.Unlock()); err != nil {
			return "", err
		}
	}
	return refused(write(fences[0]))
}

// schedule has a job fire. What the handler answers nil to is done with.
func schedule(ctx context.Context, sidecar *client.Client) (string, error) {
	s := sidecar.Schedule("default")
	job := client.Job{Name: run, Trigger: client.At(time.Now()), Data: []byte("wake-up")}
	if _, err := s.Create(ctx, job); err != nil {
		return "", err
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	seen := ""
	err := s.Handle(ctx, client.HandleOptions{Prefix: run}, func(_ context.Context, f client.Firing) error {
		seen = string(f.Data)
		enough()
		return nil
	})
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return seen, err
}

// transaction runs a saga of two steps, each a call of the application itself. The second fails, so that the first is taken back.
func transaction(ctx context.Context, sidecar *client.Client) (string, error) {
	saga := sidecar.Transactions("default").Saga(ctx).GID(run)
	for _, name := range []string{"one", "two"} {
		data, err := proto.Marshal(&tourpb.GreetRequest{Name: name})
		if err != nil {
			return "", err
		}
		to := client.To("tour", "examples.tour.v1.Greeter/Greet", data)
		saga.Step(name, to, to)
	}
	status, err := saga.Run()
	if !errors.Is(err, client.ErrRolledBack) {
		return "", fmt.Errorf("it was not rolled back: %w", err)
	}
	last, err := sidecar.State("default").Get(ctx, run+"-one")
	return fmt.Sprintf("%s at %s; last of one: %s", status.State, status.FailedBranch, last.Value), err
}
