// Command mosn is MOSN by itself, as the benchmark runs it beside the sidecar: its own proxy, router and cluster for Bolt, with nothing
// between, and with what its own binary has built in that does not build any more left out. It is a module of its own, so that none of it
// is part of ours.
//
//	mosn LISTEN UPSTREAM DIR
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"mosn.io/api"
	v2 "mosn.io/mosn/pkg/config/v2"
	_ "mosn.io/mosn/pkg/filter/network/proxy"
	"mosn.io/mosn/pkg/mosn"
	"mosn.io/mosn/pkg/protocol/xprotocol"
	"mosn.io/mosn/pkg/protocol/xprotocol/bolt"
	xstream "mosn.io/mosn/pkg/stream/xprotocol"
	"mosn.io/mosn/pkg/trace"
	xtrace "mosn.io/mosn/pkg/trace/sofa/xprotocol"
	"mosn.io/mosn/pkg/types"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "mosn LISTEN UPSTREAM DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "mosn:", err)
		os.Exit(1)
	}
	select {}
}

func run(listen, upstream, dir string) error {
	xprotocol.RegisterXProtocolAction(xstream.NewConnPool, xstream.NewStreamFactory, func(codec api.XProtocolCodec) {
		trace.RegisterTracerBuilder("SOFATracer", codec.ProtocolName(), xtrace.NewTracer)
	})
	if err := xprotocol.RegisterXProtocolCodec(&bolt.XCodec{}); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "conf"), 0o755); err != nil {
		return err
	}
	types.InitDefaultPath(filepath.Join(dir, "conf", "mosn.json"), filepath.Join(dir, "uds"))
	m := mosn.NewMosn()
	listener, err := listenerOf(listen)
	if err != nil {
		return err
	}
	if err := m.Init(configured(listener, upstream, dir)); err != nil {
		return err
	}
	m.Start()
	return m.InheritConnections() // listeners accept from now on
}

// bufferLimit is MOSN's own default, which its loader of files fills in.
const bufferLimit = 1 << 15

func listenerOf(address string) (v2.Listener, error) {
	at, err := net.ResolveTCPAddr("tcp", address)
	return v2.Listener{Addr: at, PerConnBufferLimitBytes: bufferLimit, ListenerConfig: v2.ListenerConfig{
		Name: "bolt", AddrConfig: address, BindToPort: true, Network: "tcp",
		FilterChains: []v2.FilterChain{{TLSContexts: []v2.TLSConfig{{}}, FilterChainConfig: v2.FilterChainConfig{Filters: []v2.Filter{{
			Type:   v2.DEFAULT_NETWORK_FILTER,
			Config: map[string]any{"downstream_protocol": "bolt", "upstream_protocol": "bolt", "router_config_name": "all"},
		}}}}},
	}}, err
}

func configured(l v2.Listener, upstream, dir string) *v2.MOSNConfig {
	route := v2.Router{} // without a match, which is each request of an RPC protocol
	route.Route.ClusterName = "app"
	route.Route.Timeout = time.Minute
	return &v2.MOSNConfig{
		DisableUpgrade: true,
		Servers: []v2.ServerConfig{{ServerName: "bench", DefaultLogPath: filepath.Join(dir, "mosn.log"), DefaultLogLevel: "ERROR", Listeners: []v2.Listener{l},
			Routers: []*v2.RouterConfiguration{{RouterConfigurationConfig: v2.RouterConfigurationConfig{RouterConfigName: "all"},
				VirtualHosts: []v2.VirtualHost{{Name: "all", Domains: []string{"*"}, Routers: []v2.Router{route}}}}}}},
		ClusterManager: v2.ClusterManagerConfig{Clusters: []v2.Cluster{{Name: "app", ClusterType: v2.SIMPLE_CLUSTER, LbType: v2.LB_ROUNDROBIN,
			MaxRequestPerConn: 1 << 30, ConnBufferLimitBytes: bufferLimit, Hosts: []v2.Host{{HostConfig: v2.HostConfig{Address: upstream, Weight: 1}}}}}},
	}
}
