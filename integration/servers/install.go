package servers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// installTime is a step's at most: registries may be slow, and the longest build takes minutes on two cores.
const installTime = 20 * time.Minute

// cacheDir is the folder that keeps what was fetched or built: OUTRIGGER_CACHE, else outrigger in the user's cache folder.
func cacheDir() (string, error) {
	if dir := os.Getenv("OUTRIGGER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "outrigger"), err
}

// lock keeps processes that install the same thing apart.
func lock(name string) (unlock func(), err error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(cache, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// made answers a folder of the cache that make has filled, once for each stamp: whatever decides what is in it.
func made(name, stamp string, fill func(dir string) error) (string, error) {
	unlock, err := lock("server-" + name)
	if err != nil {
		return "", err
	}
	defer unlock()
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(stamp))
	dir, want := filepath.Join(cache, "server-"+name), hex.EncodeToString(sum[:])
	if was, err := os.ReadFile(filepath.Join(dir, "stamp")); err == nil && string(was) == want {
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := fill(dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "stamp"), []byte(want), 0o644)
}

func step(ctx context.Context, dir string, env []string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	if out, err := fetching(ctx, dir, env, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("in %s, %s: %w\n%s", dir, strings.Join(args, " "), err, out)
	}
	return nil
}

// needs is an install that makes sure of tools.
func needs(tools ...tool) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, t := range tools {
			if err := t.need(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// tool is a program, by its name on PATH or by a pattern of its path, with the Debian packages that bring it.
type tool struct {
	name     string
	packages string
}

// path is where it is. Of several versions it is the last.
func (t tool) path() (string, error) {
	if !strings.Contains(t.name, "/") {
		return exec.LookPath(t.name)
	}
	all, err := filepath.Glob(t.name)
	if err == nil && len(all) == 0 {
		return "", fmt.Errorf("%s: %w", t.name, os.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	return all[len(all)-1], nil
}

// need installs it if root may and it is missing. Services that come with it are not started.
func (t tool) need(ctx context.Context) error {
	if _, err := t.path(); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("%s is missing: install it (Debian: apt-get install %s)", t.name, t.packages)
	}
	unlock, err := lock("debian")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := t.path(); err == nil {
		return nil // another has
	}
	restore, err := holdServices("/usr/sbin/policy-rc.d")
	if err != nil {
		return err
	}
	defer restore()
	apt, env := []string{"apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"}, []string{"DEBIAN_FRONTEND=noninteractive"}
	if err := step(ctx, "/", env, append(apt[:len(apt):len(apt)], "update")...); err != nil {
		return err
	}
	install := append(apt[:len(apt):len(apt)], "install", "--no-install-recommends")
	if err := step(ctx, "/", env, append(install, strings.Fields(t.packages)...)...); err != nil {
		return err
	}
	if _, err := t.path(); err != nil {
		return fmt.Errorf("%s is missing although %s is installed", t.name, t.packages)
	}
	return nil
}

// holdServices lets packages start no service while they are installed: Debian asks the program at that path.
func holdServices(policy string) (restore func(), err error) {
	f, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, os.ErrExist) {
		return func() {}, nil // the machine has a policy
	}
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(policy)
		return nil, err
	}
	return func() { os.Remove(policy) }, nil
}

var (
	javaRuntime = tool{"java", "default-jre-headless"}
	javac       = tool{"javac", "default-jdk-headless"}
	maven       = tool{"mvn", "maven"}
)

// jars are what a pom.xml asks for, in the folder lib of the one answered, and the classes of Java sources beside it in classes.
func jars(ctx context.Context, name, pom string, sources map[string]string) (string, error) {
	if err := needs(javaRuntime, maven)(ctx); err != nil {
		return "", err
	}
	return made(name, fmt.Sprint(pom, sources), func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(pom), 0o644); err != nil {
			return err
		}
		if err := step(ctx, dir, nil, "mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=lib"); err != nil {
			return err
		}
		for file, text := range sources {
			if err := javac.need(ctx); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				return err
			}
			if err := step(ctx, dir, nil, "javac", "-nowarn", "-cp", "lib/*", "-d", "classes", file); err != nil {
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
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(module, file))
		if err != nil {
			return "", err
		}
		stamp += string(text)
	}
	dir, err := made(name, stamp, func(dir string) error {
		return step(ctx, module, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w "+ldflags, "-o", filepath.Join(dir, name), command)
	})
	return filepath.Join(dir, name), err
}
