package config_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

const before = `
app: {id: orders, port: 1, services: [{name: a}]}
cache:
  same: {driver: memory, options: {labels: {x: y}}}
  size: {driver: memory}
  limit: {driver: memory}
  driver: {driver: memory}
  gone: {driver: memory}
telemetry: {log: {level: info}}
`

func TestDiff(t *testing.T) {
	after := `
# another order and another way to write the same
cache:
  driver: {driver: redis, options: {redis: {addr: "x:1"}}}
  limit: {driver: memory, limits: {queue: 1}}
  size: {driver: memory, options: {max_bytes: 1MiB}}
  same: {driver: memory, options: {labels: {x: "y"}, shards: 16}}
  new: {driver: memory}
app: {id: orders, port: 1, services: [{name: a}]}
telemetry: {log: {level: debug}}
drain: {max: 40s}
`
	changes, err := config.Diff(must(t, nil, before), must(t, nil, after), "telemetry.log.level", "drain")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%v %v %v", changes.Added, changes.Removed, changes.Changed)
	want := "[{cache new memory}] [{cache gone memory}] [{cache driver redis} {cache limit memory} {cache size memory}]"
	if got != want || !slices.Equal(changes.Settings, []string{"drain.max", "telemetry.log.level"}) {
		t.Errorf("got %s and %v, want %s", got, changes.Settings, want)
	}
	changes, err = config.Diff(must(t, nil, before), must(t, nil, before))
	if err != nil || len(changes.Added)+len(changes.Removed)+len(changes.Changed)+len(changes.Settings) != 0 {
		t.Errorf("the same file differs: %+v, %v", changes, err)
	}
}

func TestDiffRefuses(t *testing.T) {
	after := `app:
  id: payments
  namespace: shop
  services: [{name: a, port: 1}, {name: b, port: 2}]
data_dir: /var/lib/other
api: {grpc: "127.0.0.1:9000", http: "127.0.0.1:9001", socket: none}
admin: {address: "127.0.0.1:9002"}
mesh: {inbound: {address: "127.0.0.1:9003"}, outbound: {address: "127.0.0.1:9004"}}
telemetry: {log: {level: debug, format: json}}
`
	_, err := config.Diff(must(t, nil, before), must(t, nil, after), "telemetry.log.level")
	want := `a.yaml:1:1: app.port: this change needs a restart
a.yaml:2:7: app.id: this change needs a restart
a.yaml:3:14: app.namespace: this change needs a restart
a.yaml:4:13: app.services: this change needs a restart
a.yaml:5:11: data_dir: this change needs a restart
a.yaml:6:13: api.grpc: this change needs a restart
a.yaml:6:37: api.http: this change needs a restart
a.yaml:6:63: api.socket: this change needs a restart
a.yaml:7:18: admin.address: this change needs a restart
a.yaml:8:27: mesh.inbound.address: this change needs a restart
a.yaml:8:66: mesh.outbound.address: this change needs a restart
a.yaml:9:41: telemetry.log.format: this change needs a restart`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	checkOrder(t, err)
}
