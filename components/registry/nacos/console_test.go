//go:build servers

package nacos_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn/nacostest"
	"github.com/outrigger-mesh/outrigger/components/registry/nacos"
)

// console changes an instance of stock as somebody does at Nacos's console.
func console(t *testing.T, o nacos.Options, host, weight, enabled string) {
	t.Helper()
	nacostest.Ask(t, http.MethodPut, "/v1/ns/instance", url.Values{"serviceName": {stock.Name}, "groupName": {stock.Group}, "namespaceId": {o.Namespaces[stock.Namespace]},
		"ip": {host}, "port": {"1"}, "ephemeral": {"true"}, "weight": {weight}, "enabled": {enabled}})
}

// TestWhatTheConsoleChanges of an instance is told: what it weighs, and whether it may be called.
func TestWhatTheConsoleChanges(t *testing.T) {
	o := options(t, nacostest.Options(t))
	d, other := open(t, nil, o), open(t, nil, o)
	register(t, other, at("10.0.0.1:1", 1))
	register(t, other, at("10.0.0.2:1", 1))
	w := watch(t, d, stock)
	w.want(t, back, "10.0.0.1:1/1 10.0.0.2:1/1")
	for _, c := range []struct{ weight, enabled, want string }{
		{"3", "true", "10.0.0.1:1/3 10.0.0.2:1/1"}, {"3", "false", "10.0.0.2:1/1"}, {"0", "true", "10.0.0.1:1/0 10.0.0.2:1/1"}, {"2", "true", "10.0.0.1:1/2 10.0.0.2:1/1"},
	} {
		console(t, o, "10.0.0.1", c.weight, c.enabled)
		w.want(t, back, c.want)
	}
}
