package servers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/install"
)

// needs is an install that makes sure of tools.
func needs(tools ...install.Tool) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, t := range tools {
			if err := t.Need(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

var (
	javaRuntime = install.Tool{Name: "java", Packages: "default-jre-headless"}
	javac       = install.Tool{Name: "javac", Packages: "default-jdk-headless"}
	maven       = install.Tool{Name: "mvn", Packages: "maven"}
)

// jars are what a pom.xml asks for, in the folder lib of the one answered, and the classes of Java sources beside it in classes.
func jars(ctx context.Context, name, pom string, sources map[string]string) (string, error) {
	if err := needs(javaRuntime, maven)(ctx); err != nil {
		return "", err
	}
	return install.Made("server-"+name, fmt.Sprint(pom, sources), func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(pom), 0o644); err != nil {
			return err
		}
		if err := install.Step(ctx, dir, nil, "mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=lib"); err != nil {
			return err
		}
		for file, text := range sources {
			if err := javac.Need(ctx); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				return err
			}
			if err := install.Step(ctx, dir, nil, "javac", "-nowarn", "-cp", "lib/*", "-d", "classes", file); err != nil {
				return err
			}
		}
		return nil
	})
}

// goBinary builds a command by the module of its own in modules/NAME, which says the versions of all that it is made of.
func goBinary(ctx context.Context, name, command, ldflags string) (string, error) {
	module := filepath.Join(harness.Root(), "integration", "servers", "modules", name)
	stamp := command + ldflags + runtime.Version()
	for _, file := range []string{"go.mod", "go.sum", "main.go"} { // the last where the command is made here
		text, err := os.ReadFile(filepath.Join(module, file))
		if err != nil && file != "main.go" {
			return "", err
		}
		stamp += string(text)
	}
	dir, err := install.Made("server-"+name, stamp, func(dir string) error {
		return install.Step(ctx, module, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w "+ldflags, "-o", filepath.Join(dir, name), command)
	})
	return filepath.Join(dir, name), err
}
