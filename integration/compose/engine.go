package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// engine is a container engine, and how docker and docker-compose find it.
type engine struct {
	env []string
	own *exec.Cmd // nil: it ran before
	dir string    // of its own one's sockets
}

const engineTime = time.Minute // that it has to start

// findEngine answers the one that runs, or else starts one, which keeps its images in the cache folder and leaves the machine's
// packet filter alone.
func findEngine(ctx context.Context) (*engine, error) {
	e := &engine{env: append(os.Environ(), "DOCKER_BUILDKIT=0", "COMPOSE_DOCKER_CLI_BUILD=0")}
	compose := install.Tool{Name: "docker-compose", Packages: "docker-compose"}
	if err := compose.Need(ctx); err != nil {
		return nil, err
	}
	if _, err := e.output(ctx, "docker", "version", "-f", "{{.Server.Version}}"); err == nil {
		return e, nil
	}
	for _, t := range []install.Tool{{Name: "dockerd", Packages: "docker.io"}, {Name: "docker", Packages: "docker.io"}} {
		if err := t.Need(ctx); err != nil {
			return nil, err
		}
	}
	return e, e.start(ctx)
}

func (e *engine) start(ctx context.Context) (err error) {
	cache, err := install.Cache()
	if err != nil {
		return err
	}
	free, err := install.Lock("docker") // its folder is one engine's at a time
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			free()
		}
	}()
	if e.dir, err = os.MkdirTemp("", "outrigger-docker-"); err != nil {
		return err
	}
	socket := "unix://" + filepath.Join(e.dir, "docker.sock")
	e.env = append(e.env, "DOCKER_HOST="+socket)
	log, err := os.Create(filepath.Join(e.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	e.own = exec.Command("dockerd", "--data-root", filepath.Join(cache, "docker"), "--exec-root", filepath.Join(e.dir, "exec"), "--host", socket,
		"--pidfile", filepath.Join(e.dir, "pid"), "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")
	e.own.Stdout, e.own.Stderr = log, log
	e.own.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := e.own.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, engineTime)
	defer cancel()
	for {
		if _, err = e.output(ctx, "docker", "version", "-f", "{{.Server.Version}}"); err == nil {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			said, _ := os.ReadFile(log.Name())
			return errors.Join(fmt.Errorf("dockerd does not start: %w\n%s", err, said), e.close())
		}
	}
}

// projects is what the names of those that the command brings up begin with: another command's on the same engine may have the same process id.
var projects = sync.OnceValue(func() string { return fmt.Sprintf("outrigger%d-%s-", os.Getpid(), strings.ToLower(rand.Text()[:6])) })

// sweep takes down what the command has left, because it was interrupted or killed.
func (e *engine) sweep(ctx context.Context) error {
	const ofProject = `{{.ID}} {{.Label "com.docker.compose.project"}}`
	errs := []error{}
	for _, of := range []struct{ list, remove []string }{
		{[]string{"docker", "ps", "-a"}, []string{"docker", "rm", "-f", "-v"}}, {[]string{"docker", "network", "ls"}, []string{"docker", "network", "rm"}},
	} {
		all, err := e.output(ctx, append(of.list, "--format", ofProject)...)
		errs = append(errs, err)
		for line := range strings.Lines(all) {
			id, project, _ := strings.Cut(strings.TrimSpace(line), " ")
			if err == nil && strings.HasPrefix(project, projects()) {
				_, err := e.output(ctx, append(of.remove, id)...)
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// close takes down what is left, and ends an engine of its own.
func (e *engine) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), engineTime)
	defer cancel()
	err := e.sweep(ctx)
	if e.own == nil {
		return err
	}
	err = errors.Join(err, e.own.Process.Signal(syscall.SIGTERM))
	e.own.Wait() // what it says of being ended
	namespace := filepath.Join(e.dir, "exec", "netns", "default")
	if failed := syscall.Unmount(namespace, 0); failed != nil && !errors.Is(failed, syscall.EINVAL) && !errors.Is(failed, syscall.ENOENT) {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", namespace, failed))
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}

// do runs a command with all that it prints.
func (e *engine) do(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = e.env, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (e *engine) output(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = e.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

const base = "outrigger/base" // what the stand-ins are built from

// build makes the images that the file names for the services.
func (e *engine) build(ctx context.Context, names []string) error {
	if _, err := e.output(ctx, "docker", "image", "inspect", base); err != nil {
		if err := e.bootstrap(ctx); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(servers.ComposeFile)
	if err != nil {
		return err
	}
	for _, name := range names {
		image := regexp.MustCompile(`(?m)^  ` + name + `:.*\n    image: (\S+)$`).FindSubmatch(text)
		if image == nil {
			return fmt.Errorf("%s has no image for %s", servers.ComposeFile, name)
		}
		err := e.do(ctx, "docker", "build", "-q", "--network", "host", "-t", string(image[1]), filepath.Join("integration", "compose", "images", name))
		if err != nil {
			return err
		}
	}
	return nil
}

var debian = regexp.MustCompile(`https?://\S+/debian\b`)

// bootstrap makes the base image of Debian's packages.
func (e *engine) bootstrap(ctx context.Context) error {
	if err := (install.Tool{Name: "debootstrap", Packages: "debootstrap"}).Need(ctx); err != nil {
		return err
	}
	policy, err := e.output(ctx, "apt-cache", "policy", "base-files")
	if err != nil {
		return err
	}
	archive := debian.FindString(policy)
	if archive == "" {
		return errors.New("no Debian archive is configured on this machine")
	}
	dir, err := os.MkdirTemp("", "outrigger-base-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := install.Step(ctx, dir, nil, "debootstrap", "--variant=minbase", "bookworm", dir, archive); err != nil {
		return err
	}
	return e.do(ctx, "sh", "-c", "tar -C "+dir+" -c . | docker import - "+base)
}
