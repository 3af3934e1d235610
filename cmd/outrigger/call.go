package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/outrigger-mesh/outrigger/runtime/hint"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// place is where a command looks for the sidecar; without a flag it looks where the SDK does.
type place struct {
	addr, socket, app, namespace, dataDir string
	port                                  *int
}

func placeFlags(f *flag.FlagSet) *place {
	p := &place{}
	f.StringVar(&p.addr, "addr", "", "HOST:PORT of the gRPC API")
	portFlag(f, "grpc-port", "port of the gRPC API on this machine", &p.port)
	f.StringVar(&p.socket, "socket", "", "unix socket of the sidecar")
	f.StringVar(&p.app, "app-id", "", "the application whose sidecar is meant")
	f.StringVar(&p.namespace, "namespace", "", "namespace of that application; default unless set")
	f.StringVar(&p.dataDir, "data-dir", "", "folder of the sidecar's state")
	return p
}

func (p *place) options() []client.Option {
	var all []client.Option
	if p.addr != "" {
		all = append(all, client.WithAddress(p.addr))
	}
	if p.port != nil {
		all = append(all, client.WithPort(*p.port))
	}
	if p.socket != "" {
		all = append(all, client.WithSocket(p.socket))
	}
	if p.app != "" {
		all = append(all, client.WithApp(p.namespace, p.app))
	}
	if p.dataDir != "" {
		all = append(all, client.WithDataDir(p.dataDir))
	}
	return all
}

const findTime = 5 * time.Second

func callCommand(args []string, out, errs io.Writer) int {
	f := flagSet("call", errs)
	where := placeFlags(f)
	timeout := f.Duration("timeout", 30*time.Second, "longest time for a call that is no stream")
	reading := f.Duration("for", 0, "how long a stream is read; 0: until it ends")
	if code, ends := parse(f, args, anyWords); ends {
		return code
	}
	if f.NArg() < 1 {
		fmt.Fprintln(errs, "usage: outrigger call [flags] SERVICE/METHOD [JSON...]\n"+
			"A stream of requests takes several JSON texts; - reads more from standard input, and its end ends them.\nmethods:", strings.Join(methods(), " "))
		return exitStart
	}
	if *timeout <= 0 {
		fmt.Fprintln(errs, "outrigger call: -timeout is more than 0")
		return exitStart
	}
	for _, word := range f.Args() {
		if strings.HasPrefix(word, "-") && word != "-" {
			fmt.Fprintf(errs, "outrigger call: flags go before SERVICE/METHOD: outrigger call %s ... %s\n", word, f.Arg(0))
			return exitStart
		}
	}
	m, err := method(f.Arg(0))
	if err != nil {
		fmt.Fprintln(errs, "outrigger call:", err)
		return exitStart
	}
	in, err := requestsOf(m, f.Args()[1:], os.Stdin)
	if err != nil {
		fmt.Fprintln(errs, "outrigger call:", err)
		return exitStart
	}
	find, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	c, err := client.Dial(find, where.options()...)
	if err != nil {
		fmt.Fprintln(errs, "outrigger call:", err)
		return exitStart
	}
	defer c.Close()
	if err := call(c.API(), m, in, *timeout, *reading, out); err != nil {
		printStatus(errs, err)
		return exitFaults
	}
	return exitOK
}

// eachMethod goes over the methods of the sidecar's own services until f answers false. They are in this build because the
// runtime serves them.
func eachMethod(f func(protoreflect.MethodDescriptor) bool) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "outrigger.") {
			return true
		}
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				if !f(s.Methods().Get(j)) {
					return false
				}
			}
		}
		return true
	})
}

func methods() []string {
	var all []string
	eachMethod(func(m protoreflect.MethodDescriptor) bool {
		all = append(all, string(m.Parent().Name())+"/"+string(m.Name()))
		return true
	})
	slices.Sort(all)
	return all
}

// method finds Cache/Get, outrigger.cache.v1.Cache/Get, or that with a slash before it, as gRPC and HTTP write it.
func method(name string) (found protoreflect.MethodDescriptor, err error) {
	service, short, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if ok {
		eachMethod(func(m protoreflect.MethodDescriptor) bool {
			s := m.Parent()
			if string(m.Name()) == short && (string(s.Name()) == service || string(s.FullName()) == service) {
				found = m
			}
			return found == nil
		})
	}
	if found != nil {
		return found, nil
	}
	all := methods()
	if meant := hint.Path(name, all); meant != "" {
		return nil, fmt.Errorf("there is no method %q (did you mean %q?)", name, meant)
	}
	of := slices.DeleteFunc(slices.Clone(all), func(m string) bool { return !strings.HasPrefix(m, service+"/") })
	if len(of) > 0 {
		all = of
	}
	return nil, fmt.Errorf("there is no method %q; there are %s", name, strings.Join(all, " "))
}

func call(conn grpc.ClientConnInterface, m protoreflect.MethodDescriptor, in requests, timeout, reading time.Duration, out io.Writer) error {
	path := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	if m.IsStreamingServer() {
		return stream(conn, path, m, in, reading, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	answer := dynamicpb.NewMessage(m.Output())
	if err := conn.Invoke(ctx, path, in.given[0], answer); err != nil {
		return err
	}
	return printMessage(out, answer, "  ")
}

// printMessage prints a message as JSON, on one line if indent is empty. The white space of protojson differs from build to
// build, on purpose; that of a command's output does not.
func printMessage(out io.Writer, m proto.Message, indent string) error {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if indent == "" {
		err = json.Compact(&b, text)
	} else {
		err = json.Indent(&b, text, "", indent)
	}
	if err == nil {
		_, err = fmt.Fprintln(out, b.String())
	}
	return err
}

// said is who made an error, where it was not the sidecar that was called.
var said = map[string]string{client.OriginApp: " (from the application)", client.OriginPeer: " (from the other sidecar)"}

// printStatus says how a call failed: its code, reason, origin and message.
func printStatus(errs io.Writer, err error) {
	st := status.Convert(err)
	reason := client.Reason(err)
	if reason != "" {
		reason = " " + reason
	}
	fmt.Fprintf(errs, "%s%s%s: %s\n", st.Code(), reason, said[client.Origin(err)], st.Message())
}
