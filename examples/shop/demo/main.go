// Command demo opens a small shop, with a sidecar beside each of its applications, and checks what it does. It needs Go and a
// terminal, nothing else: all that it starts is ended, and all that it writes is in a temporary folder that it removes.
//
//	go run ./examples/shop/demo            the whole of it; the last line is "demo: N checks, M failed"
//	go run ./examples/shop/demo -breaks    each check once with a fault caused on purpose, which it must see
//	DEMO_BREAK=cache-ttl go run ./examples/shop/demo
//	go run ./integration/servers/cmd redis kafka nacos -- go run ./examples/shop/demo -on redis-kafka-nacos
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	breaks := flag.Bool("breaks", false, "cause a fault for each check, and see it fail")
	name := flag.String("on", "", "run the shop on other drivers: those of a file in examples/shop/configs/on, whose servers the environment names")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ok, err := demo(ctx, os.Stdout, *name, *breaks, os.Getenv("DEMO_BREAK"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// demo builds the programs and runs what is asked for.
func demo(ctx context.Context, out io.Writer, name string, breaks bool, broken string) (ok bool, err error) {
	on, err := driversOn(name)
	if err != nil {
		return false, err
	}
	if _, known := sceneOf(broken); broken != "" && !known {
		return false, fmt.Errorf("DEMO_BREAK: there is no check %q; there are %s", broken, strings.Join(names(), " "))
	}
	bin, err := os.MkdirTemp("", "shop-bin-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(bin)
	if err := build(ctx, out, bin); err != nil {
		lastLine(out, len(names()))
		return false, fmt.Errorf("go build: %w", err)
	}
	if breaks {
		return runBreaks(ctx, out, bin, on)
	}
	return runAll(ctx, out, bin, on, broken)
}

const module = "github.com/outrigger-mesh/outrigger"

func build(ctx context.Context, out io.Writer, bin string) error {
	fmt.Fprintln(out, "Building the sidecar (outrigger) and the applications (shop)")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", bin+string(filepath.Separator), module+"/cmd/outrigger", module+"/examples/shop")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(bin, "shop"))
	fmt.Fprintf(out, "The applications are sha256 %x, whatever the sidecars run on\n", sha256.Sum256(text))
	return err
}

// runAll goes through all scenes.
func runAll(ctx context.Context, out io.Writer, bin string, on drivers, broken string) (ok bool, err error) {
	s, err := openShop(bin, on)
	if err != nil {
		return false, err
	}
	r := &runner{out: out, broken: broken}
	for i, sc := range scenes() {
		r.scene(ctx, s, sc, "")
		if i == 0 && len(r.failed) > 0 {
			fmt.Fprintln(out, "\nThe shop did not open: nothing else can be shown.")
			break
		}
	}
	if len(r.failed) > 0 && broken == "" {
		s.tellLogs(os.Stderr)
	}
	err = s.close(ctx.Err() != nil)
	fmt.Fprintln(out)
	if ctx.Err() != nil {
		fmt.Fprintln(out, "It was interrupted.")
	}
	for _, name := range r.failed {
		fmt.Fprintln(out, "failed:", name)
	}
	untried := len(names()) - r.total
	if untried > 0 {
		fmt.Fprintln(out, "not tried:", untried)
	}
	lastLine(out, len(r.failed)+untried) // what was not tried was not shown
	return len(r.failed)+untried == 0, err
}

func lastLine(out io.Writer, failed int) {
	fmt.Fprintf(out, "demo: %d checks, %d failed\n", len(names()), failed)
}

// tellLogs shows the end of what each process wrote.
func (s *shop) tellLogs(out io.Writer) {
	for _, p := range s.processes {
		fmt.Fprintf(out, "--- %s\n%s\n", p.name, tail(p.output()))
	}
}

// runBreaks shows that each check can fail: in a shop of its own, of which only the scene is played that the check belongs to.
func runBreaks(ctx context.Context, out io.Writer, bin string, on drivers) (ok bool, err error) {
	var blind []string
	for _, name := range names() {
		seen, err := runBroken(ctx, out, bin, on, name)
		if err != nil {
			return false, err
		}
		if ctx.Err() != nil {
			return false, errors.New("interrupted")
		}
		verdict := "fails as it should"
		if !seen {
			verdict = "DOES NOT SEE ITS FAULT"
			blind = append(blind, name)
		}
		fmt.Fprintf(out, "%-22s %s\n", name, verdict)
	}
	if len(blind) > 0 {
		fmt.Fprintf(out, "blind: %s\n", strings.Join(blind, " "))
	}
	fmt.Fprintf(out, "breaks: %d checks, %d do not see their fault\n", len(names()), len(blind))
	return len(blind) == 0, nil
}

func runBroken(ctx context.Context, out io.Writer, bin string, on drivers, name string) (seen bool, err error) {
	s, err := openShop(bin, on)
	if err != nil {
		return false, err
	}
	var story strings.Builder
	r := &runner{out: &story, broken: name}
	sc, _ := sceneOf(name)
	if sc.title != opening.title {
		r.scene(ctx, s, opening, "")
	}
	r.scene(ctx, s, sc, name)
	if len(r.failed) == 1 && r.failed[0] == name {
		seen = true
		fmt.Fprint(out, lastCheck(story.String()))
	} else if ctx.Err() == nil {
		fmt.Fprint(out, story.String())
	}
	return seen, s.close(true)
}

// lastCheck is what was told of the last check: three lines or more from its verdict on.
func lastCheck(story string) string {
	return story[max(strings.LastIndex(story, "\n  FAILED"), 0):]
}

func names() []string {
	var all []string
	for _, sc := range scenes() {
		for _, c := range sc.checks {
			all = append(all, c.name)
		}
	}
	return all
}

// sceneOf is the scene that a check belongs to.
func sceneOf(name string) (scene, bool) {
	for _, sc := range scenes() {
		for _, c := range sc.checks {
			if c.name == name {
				return sc, true
			}
		}
	}
	return scene{}, false
}
