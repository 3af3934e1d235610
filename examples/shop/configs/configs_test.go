package configs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/outrigger-mesh/outrigger/examples/shop/configs"
)

// Each configuration is without fault, as the command says that users have.
func TestConfigurations(t *testing.T) {
	outrigger := filepath.Join(t.TempDir(), "outrigger")
	build := exec.Command("go", "build", "-trimpath", "-o", outrigger, "github.com/outrigger-mesh/outrigger/cmd/outrigger")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	names, err := fs.Glob(configs.FS, "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("configurations: %v %v", names, err)
	}
	for _, name := range names {
		check := exec.Command(outrigger, "check", "-config", name)
		check.Env = append(os.Environ(), "SHOP_DIR="+t.TempDir())
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
