package mesh

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// TestMOSNsInterface: an application that knows MOSN publishes and subscribes as it does there, calls its sidecar, and takes both back.
func TestMOSNsInterface(t *testing.T) {
	t.Log("feature: dubbo, applications publish and subscribe by MOSN's interface")
	registry := "registry: {default: {driver: file, options: {dir: " + t.TempDir() + "}}}\n"
	beside := func(app string, port int) (s *harness.Sidecar, say func(path string)) {
		control := fmt.Sprint("127.0.0.1:", freePort(t))
		s = harness.Start(t, harness.Options{App: app, AppPort: port, Protocol: "dubbo",
			Config: registry + fmt.Sprintf("mesh: {sofarpc: {control: %q, outbound: '127.0.0.1:%d'}}\n", control, freePort(t))})
		return s, func(path string) {
			t.Helper()
			response, err := http.Post("http://"+control+path, "application/json", strings.NewReader(`{"service":{"interface":"`+askedService+`","methods":["fine"]}}`))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if text, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(text), `"err_no":0`) {
				t.Fatalf("%s: %s, %v", path, text, err)
			}
		}
	}
	w := wires[len(wires)-1] // of Dubbo
	_, provider := beside("provider", w.app(t).port)
	consumer, asks := beside("consumer", 0)
	provider("/pub")
	asks("/sub")
	call := w.client(t, consumer.Outbound)
	harness.Eventually(t, 20*time.Second, func() error { return call("fine") })
	asks("/unsub")
	provider("/unpub")
	harness.Eventually(t, 30*time.Second, func() error {
		if err := call("fine"); err == nil || !strings.Contains(err.Error(), "NO_INSTANCE") && !strings.Contains(err.Error(), "SERVICE_NOT_HERE") {
			return fmt.Errorf("a service that was taken back: %v", err)
		}
		return nil
	})
}
