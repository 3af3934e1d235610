package runtime_test

import (
	"fmt"
	"testing"
)

// Who looks for the reason why nobody calls the application finds it where the sidecar's state is.
func TestInfoTellsOfTheServicesThatAreOffered(t *testing.T) {
	a := startApplication(t)
	s := start(t, fmt.Sprintf("app: {id: stock, port: %d, services: [{name: bills, protocol: http, port: 1}]}\nregistry: {default: {driver: file}}\n", a.port))
	s.shows(t, "/info", `
    {
      "name": "default/bills http",
      "port": 1,
      "announced": false,
      "error": "the port does not answer"
    }`, fmt.Sprintf(`
    {
      "name": "default/stock http",
      "port": %d,
      "announced": true
    }`, a.port))
	s.shows(t, "/readyz", "ready") // it speaks of app.port
}
