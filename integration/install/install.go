// Package install brings what tests and benchmarks need that is no part of the tree: Debian's packages, and what is fetched or built
// once and kept in a cache folder.
package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// outer is what a command that reaches registries begins with.
var outer = func() []string { return nil }

// Through has each Step run by the command that prefix answers, such as in another network. Not to be called while one runs.
func Through(prefix func() []string) { outer = prefix }

// installTime is a step's at most: registries may be slow, and the longest build takes minutes on two cores.
const installTime = 20 * time.Minute

// Cache is the folder that keeps what was fetched or built: OUTRIGGER_CACHE, else outrigger in the user's cache folder.
func Cache() (string, error) {
	if dir := os.Getenv("OUTRIGGER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "outrigger"), err
}

// Lock keeps processes that install the same thing, or use what is in the same folder of the cache, apart.
func Lock(name string) (unlock func(), err error) {
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cache, name+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
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

// Made answers a folder of the cache that make has filled, once for each stamp: whatever decides what is in it.
func Made(name, stamp string, fill func(dir string) error) (string, error) {
	unlock, err := Lock(name)
	if err != nil {
		return "", err
	}
	defer unlock()
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(stamp))
	dir, want := filepath.Join(cache, name), hex.EncodeToString(sum[:])
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

// Command is one that may reach registries. It ends with ctx, and with the process.
func Command(ctx context.Context, dir string, env []string, args ...string) *exec.Cmd {
	args = append(outer(), args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Step runs a Command, and says all that it has printed when it fails.
func Step(ctx context.Context, dir string, env []string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	if out, err := Command(ctx, dir, env, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("in %s, %s: %w\n%s", dir, strings.Join(args, " "), err, out)
	}
	return nil
}

// Tool is a program, by its name on PATH or by a pattern of its path, with the Debian packages that bring it.
type Tool struct {
	Name     string
	Packages string
	Probe    []string // succeeds if it is there, where its name does not tell
}

// Path is where it is. Of several versions it is the last.
func (t Tool) Path() (string, error) {
	if len(t.Probe) > 0 {
		return t.Name, exec.Command(t.Probe[0], t.Probe[1:]...).Run()
	}
	if !strings.Contains(t.Name, "/") {
		return exec.LookPath(t.Name)
	}
	all, err := filepath.Glob(t.Name)
	if err == nil && len(all) == 0 {
		return "", fmt.Errorf("%s: %w", t.Name, os.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	return all[len(all)-1], nil
}

// Need installs it if root may and it is missing. Services that come with it are not started.
func (t Tool) Need(ctx context.Context) error {
	if _, err := t.Path(); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("%s is missing: install it (Debian: apt-get install %s)", t.Name, t.Packages)
	}
	unlock, err := Lock("debian")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := t.Path(); err == nil {
		return nil // another has
	}
	restore, err := holdServices("/usr/sbin/policy-rc.d")
	if err != nil {
		return err
	}
	defer restore()
	apt, env := []string{"apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"}, []string{"DEBIAN_FRONTEND=noninteractive"}
	if err := Step(ctx, "/", env, append(apt[:len(apt):len(apt)], "update")...); err != nil {
		return err
	}
	install := append(apt[:len(apt):len(apt)], "install", "--no-install-recommends")
	if err := Step(ctx, "/", env, append(install, strings.Fields(t.Packages)...)...); err != nil {
		return err
	}
	if _, err := t.Path(); err != nil {
		return fmt.Errorf("%s is missing although %s is installed", t.Name, t.Packages)
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
