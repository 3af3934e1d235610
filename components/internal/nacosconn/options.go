// Package nacosconn is a client of Nacos servers, of version 2 and later: their gRPC protocol, spoken with the wire format
// of their Go SDK, without that SDK's clients. It keeps one connection with one stream, on which the server pushes, opens no port of its own, writes no
// file and logs to the component's logger alone. docs/adr has why.
package nacosconn

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Options say where the servers are, and who asks.
type Options struct {
	Addresses   []string          `yaml:"addresses" doc:"HOST:PORT of the servers, the port being that of HTTP"`
	GRPCOffset  int               `yaml:"grpc_offset" doc:"what is added to that port for gRPC"`
	ContextPath string            `yaml:"context_path" doc:"what the paths of the HTTP interface begin with"`
	User        string            `yaml:"user" doc:"empty: there is no login"`
	Password    components.Secret `yaml:"password" doc:"of user"`
	TLS         backend.TLS       `yaml:"tls"`
	Timeout     time.Duration     `yaml:"timeout" doc:"for one question to a server, and for connecting to one"`
	Heartbeat   time.Duration     `yaml:"heartbeat" doc:"how often the server is asked whether it is there; one that does not answer within timeout is lost"`
}

// Defaults are what the options are unless they are set.
func Defaults() Options {
	return Options{Addresses: []string{"127.0.0.1:8848"}, GRPCOffset: 1000, ContextPath: "/nacos", Timeout: 3 * time.Second, Heartbeat: 3 * time.Second}
}

// The server forgets a client that it has not heard for 20 s.
const maxHeartbeat = 10 * time.Second

// Validate refuses what cannot work.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("addresses", o.Addresses), o.TLS.Validate()}
	if o.User == "" && o.Password != "" {
		faults = append(faults, errors.New("password: there is no user that it belongs to"))
	}
	if o.ContextPath != "" && (!strings.HasPrefix(o.ContextPath, "/") || strings.HasSuffix(o.ContextPath, "/")) {
		faults = append(faults, fmt.Errorf("context_path: %q does not begin with / or ends with it", o.ContextPath))
	}
	if o.Timeout <= 0 {
		faults = append(faults, errors.New("timeout: must be more than 0"))
	}
	if o.Heartbeat <= 0 || o.Heartbeat > maxHeartbeat {
		faults = append(faults, fmt.Errorf("heartbeat: must be more than 0 and %s at most", maxHeartbeat))
	}
	for _, address := range o.Addresses {
		if _, err := o.grpcAddress(address); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (o Options) grpcAddress(address string) (string, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", nil // CheckAddresses has said it
	}
	port, err := strconv.Atoi(text)
	if err != nil || port+o.GRPCOffset < 1 || port+o.GRPCOffset > 65535 {
		return "", fmt.Errorf("addresses: %q with grpc_offset %d has no port for gRPC", address, o.GRPCOffset)
	}
	return net.JoinHostPort(host, strconv.Itoa(port+o.GRPCOffset)), nil
}

// Key is the same for equal options only, to share what is made with them. It holds no secret that could be read.
func (o Options) Key() any {
	type key struct {
		options string
		secret  [sha256.Size]byte
	}
	return key{fmt.Sprintf("nacos %+v", o), sha256.Sum256([]byte(o.Password.Reveal()))}
}
