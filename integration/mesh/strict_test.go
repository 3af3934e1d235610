package mesh

import (
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// TestStrictAndPermissive: where TLS is a must, nobody comes in without it, nor with a certificate of a CA that is not trusted; where it may be, who has
// none comes in as well.
func TestStrictAndPermissive(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, mutual TLS as a must and as a choice: strict and permissive")
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			certified := func(by *authority, mode, app string) string {
				folder := t.TempDir()
				by.trust = ca.pem()
				by.issue(folder, app)
				return "mesh: {" + by.config(mode, folder) + "}\n"
			}
			for _, mode := range []string{"strict", "permissive"} {
				r := &ruled{t: t, w: w, dir: t.TempDir(), more: certified(ca, mode, "provider-v1")}
				r.start(certified(ca, "strict", "consumer"), "v1")
				before := r.apps[0].times("fine")
				if err := w.client(t, r.sidecars[0].Inbound)("fine"); (err == nil) != (mode == "permissive") {
					t.Errorf("%s: a call without TLS: %v", mode, err)
				}
				if n := r.apps[0].times("fine") - before; (n > 0) != (mode == "permissive") {
					t.Errorf("%s: %d calls without TLS arrived", mode, n)
				}
				before = r.apps[0].times("fine")
				other := harness.Start(t, harness.Options{App: "other", Config: r.registry() + certified(newAuthority(t), "strict", "other")})
				if err := w.client(t, other.Outbound)("fine"); err == nil || strings.Contains(err.Error(), "NO_INSTANCE") || r.apps[0].times("fine") != before {
					t.Errorf("%s: a call with a certificate of a CA that is not trusted: %v", mode, err)
				}
			}
		})
	}
}
