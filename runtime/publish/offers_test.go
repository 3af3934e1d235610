package publish_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

// stands waits until it is told of the one service why it is not announced; "": it is.
func (b *bench) stands(t *testing.T, port int, want string) {
	t.Helper()
	eventually(t, func() error {
		all := b.Offers()
		if len(all) != 1 || all[0].Service != service("stock") || all[0].Port != port || all[0].Why != want {
			return fmt.Errorf("offers: %+v; want stock at %d with %q", all, port, want)
		}
		return nil
	})
}

// Whether each service is announced can be asked for, and why not; and the log says why one is taken out of the registry.
func TestWhyAServiceIsNotAnnounced(t *testing.T) {
	b := start(t, "")
	if all := b.Offers(); all != nil {
		t.Errorf("nothing is published, and there are %v", all)
	}
	app, port := serve(t, 0)
	app.Close()
	b.Declare([]publish.Publication{{Service: service("stock"), Port: port}})
	b.stands(t, port, "the port does not answer")
	again, _ := serve(t, port)
	b.stands(t, port, "")
	again.Close()
	b.stands(t, port, "the port does not answer")
	b.central.lack(t, "stock|")
	b.central.set(errors.New("away"))
	last, _ := serve(t, port)
	b.stands(t, port, "the registry was not told: registry \"default\": away")
	b.central.set(nil)
	b.stands(t, port, "")
	b.central.set(errors.New("away"))
	last.Close()
	b.stands(t, port, "the port does not answer, and the registry was not told so: registry \"default\": away")
	b.central.set(nil)
	b.central.lack(t, "stock|")
	b.stands(t, port, "the port does not answer")
	serve(t, port)
	b.stands(t, port, "")
	if err := b.Withdraw(t.Context()); err != nil {
		t.Error(err)
	}
	b.stands(t, port, "the sidecar is ending")
	b.Close()
	for _, want := range []string{`level=WARN msg="service taken out of the registry: its port does not answer"`, "connection refused",
		`level=INFO msg="service taken out of the registry: it is not published any more, or the sidecar ends"`} {
		if !strings.Contains(b.log.String(), want) {
			t.Errorf("the log has not %s:\n%s", want, b.log.String())
		}
	}
}
