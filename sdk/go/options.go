package client

import (
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
)

// Option changes how Dial and Find look for the sidecar, or how the Client behaves. Empty values change nothing, so that
// flags can be handed over as they are.
type Option func(*options)

type options struct {
	places          []place // named by the caller; with any, nothing else is tried
	dataDir         string
	namespace, app  string
	token           string
	grace           time.Duration
	wait            bool
	logger          *slog.Logger
	dial            []grpc.DialOption
	trusts          func(uid uint32) bool // with the token of the data folder
	fallbackAddress string
	direct          map[string]string // targets by service
	directDial      []grpc.DialOption
}

// place is where a sidecar may be, as somebody wrote it.
type place struct{ text, source string }

const defaultAddress = "127.0.0.1:7070"

func newOptions(opts []Option) *options {
	o := &options{
		dataDir:         os.Getenv("OUTRIGGER_DATA_DIR"),
		namespace:       os.Getenv("OUTRIGGER_APP_NAMESPACE"),
		app:             os.Getenv("OUTRIGGER_APP_ID"),
		token:           os.Getenv("OUTRIGGER_TOKEN"),
		grace:           5 * time.Second,
		logger:          slog.New(slog.DiscardHandler),
		fallbackAddress: defaultAddress,
		trusts:          ownOrRoot,
		direct:          map[string]string{},
	}
	o.addDirect(os.Getenv("OUTRIGGER_DIRECT"))
	for _, set := range opts {
		set(o)
	}
	if o.dataDir == "" {
		o.dataDir = defaultDataDir()
	}
	return o
}

// WithAddress names the sidecar's gRPC address: HOST:PORT, or unix:PATH.
func WithAddress(address string) Option {
	return func(o *options) { o.add(address, address, "address given") }
}

// WithSocket names the sidecar's unix socket.
func WithSocket(path string) Option {
	return func(o *options) { o.add(path, "unix:"+path, "socket given") }
}

// WithPort names the sidecar's gRPC port on 127.0.0.1; 0 is none.
func WithPort(port int) Option {
	return func(o *options) {
		if port != 0 {
			o.add("port", "127.0.0.1:"+strconv.Itoa(port), "port given")
		}
	}
}

func (o *options) add(given, text, source string) {
	if given != "" {
		o.places = append(o.places, place{text, source})
	}
}

// WithApp says whose sidecar to look for, in place of OUTRIGGER_APP_NAMESPACE and OUTRIGGER_APP_ID.
func WithApp(namespace, id string) Option {
	return func(o *options) {
		if namespace != "" {
			o.namespace = namespace
		}
		if id != "" {
			o.app = id
		}
	}
}

// WithDataDir names the data folder, where sockets and the token are, in place of OUTRIGGER_DATA_DIR.
func WithDataDir(dir string) Option {
	return func(o *options) {
		if dir != "" {
			o.dataDir = dir
		}
	}
}

// WithToken gives the API token, in place of OUTRIGGER_TOKEN and the file "token" in the data folder. It is only sent over
// unix sockets and loopback; that of the data folder only where WithAddress or its like, OUTRIGGER_SOCKET or OUTRIGGER_GRPC_ADDR
// name the place, or the listener is of the own user or root, which is known on Linux alone.
func WithToken(token string) Option {
	return func(o *options) {
		if token != "" {
			o.token = token
		}
	}
}

// WithGrace sets how long calls wait for a sidecar that has gone away before they fail; 5 s unless set, 0 fails them at once.
// It counts from the loss of the sidecar, not from the call: once it is over, calls fail at once until the sidecar is back.
func WithGrace(d time.Duration) Option { return func(o *options) { o.grace = max(d, 0) } }

// WithWait lets Dial go on looking until a sidecar answers or its context ends, so that it does not matter who starts first.
func WithWait() Option { return func(o *options) { o.wait = true } }

// WithLogger has resumed streams logged, at level debug, and that the token was not sent, at level warn; by default nothing is.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.logger = l
		}
	}
}

// WithDirect says where services can be called without a sidecar: SERVICE=TARGET, one after the other with white space between. It adds to
// OUTRIGGER_DIRECT, which is written the same way. A target is HOST:PORT, several of these with commas between, or whatever gRPC resolves:
// dns:///stock:8080, or a scheme whose resolver the application has registered.
//
// With any, Dial succeeds also when no sidecar is there, and the client finds out by itself: calls of Conn to these services go through the
// sidecar while there is one, and directly while there is none; a unary call also if the sidecar knows no instance. All other calls
// fail with SIDECAR_UNAVAILABLE while there has been no sidecar.
func WithDirect(services string) Option { return func(o *options) { o.addDirect(services) } }

// WithDirectDialOptions adds to how the connections of WithDirect are made, such as TLS; unless set they have none.
func WithDirectDialOptions(opts ...grpc.DialOption) Option {
	return func(o *options) { o.directDial = append(o.directDial, opts...) }
}

func (o *options) addDirect(services string) {
	for _, one := range strings.Fields(services) {
		service, target, _ := strings.Cut(one, "=") // without a target it is refused by newDirect
		o.direct[service] = target
	}
}

// WithDialOptions adds to how the gRPC connection is made, for instance a stats handler that makes spans.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, opts...) }
}
