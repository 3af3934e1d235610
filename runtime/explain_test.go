package runtime_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// A service is looked for as what it is called by.
func TestExplainByProtocol(t *testing.T) {
	a := startApplication(t)
	s := start(t, fmt.Sprintf("app: {id: stock, services: [{name: 'peer.Hello:1.0', protocol: bolt, port: %d}]}\nregistry: {default: {driver: file}}\n", a.port))
	eventually(t, func() error {
		code, text := s.get("/explain?protocol=bolt&service=peer.Hello")
		var x mesh.Explanation
		if err := json.Unmarshal([]byte(text), &x); code != http.StatusOK || err != nil || len(x.Instances) != 1 {
			return fmt.Errorf("answered %d %s", code, text)
		}
		return nil
	})
	if code, text := s.get("/explain?protocol=http&service=peer.Hello"); code != http.StatusOK || !strings.Contains(text, "no instance") {
		t.Errorf("HTTP goes there: %d %s", code, text)
	}
	for _, source := range []string{"a/b/c", "/b", "a/"} {
		if code, text := s.get("/explain?service=peer.Hello&source=" + source); code != http.StatusBadRequest || !strings.Contains(text, "write APP or NAMESPACE/APP") {
			t.Errorf("source %s: %d, %s", source, code, text)
		}
	}
	if code, text := s.get("/explain?protocol=tars&service=peer.Hello"); code != http.StatusBadRequest || !strings.Contains(text, "tars") {
		t.Errorf("answered %d %s", code, text)
	}
}
