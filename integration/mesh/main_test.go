// Package mesh drives stock peers of the mesh's protocols through sidecars: none of them knows that there is one.
package mesh

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

func TestMain(m *testing.M) {
	if protocol := os.Getenv(appVariable); protocol != "" {
		runApp(protocol)
		return
	}
	os.Exit(harness.Main(m))
}

// ask reads JSON from a sidecar's admin.
func ask(s *harness.Sidecar, path string, into any) error {
	res, err := http.Get("http://" + s.Admin + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(into)
}
