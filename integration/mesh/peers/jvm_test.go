// Package peers_test has unmodified SOFARPC, Dubbo and Spring Cloud, of Java, find and call each other directly and through sidecars, which they reach
// with settings alone.
package peers_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/lang"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

func TestMain(m *testing.M) {
	if err := servers.Private(); err != nil {
		fmt.Println("in the network of the machine, of which stock peers may register another address than loopback:", err)
	}
	os.Exit(harness.Main(m))
}

// frameworks are made by Maven, each in a folder of one program.
var frameworks = []string{"sofa", "sofaboot", "dubbo3", "dubbo27", "spring", "springzk"}

func stock() *lang.Program {
	java := lang.Java()
	java.Steps = nil
	for _, f := range frameworks {
		java.Steps = append(java.Steps, []string{"mvn", "-f", f + "/pom.xml", "--batch-mode", "--quiet", "compile", "dependency:copy-dependencies"})
	}
	return &lang.Program{Name: "mesh-peers", From: "integration/mesh/peers/java", Language: java}
}

// jvm is one peer, of Java or Python, which does what lines tell it.
type jvm struct {
	t    *testing.T
	name string
	mu   sync.Mutex
	in   io.WriteCloser
	out  chan string
	log  *os.File
	kill func() // ends it at once
}

// started are peers of a framework. None keeps anything of its own but on loopback.
func started(t *testing.T, dir, framework string, names ...string) []*jvm {
	t.Helper()
	return run(t, framework, func(name string) *exec.Cmd {
		p := stock()
		p.Run = []string{"java", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "--add-opens", "java.base/java.math=ALL-UNNAMED",
			"-Ddubbo.network.interface.ignored=.*", "-Djava.net.preferIPv4Stack=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Ddubbo.application.logger=slf4j",
			"-Dhttp.nonProxyHosts=", // or loopback would not be asked of a proxy, where a test sets one
			"-Duser.home=" + t.TempDir(), "-cp", "target/classes:target/dependency/*", "peer.Main"}
		return p.Command(context.WithoutCancel(t.Context()), filepath.Join(dir, framework), name)
	}, names...)
}

// run starts peers of a framework by their commands.
func run(t *testing.T, framework string, command func(name string) *exec.Cmd, names ...string) (all []*jvm) {
	t.Helper()
	for _, name := range names {
		cmd := command(name)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		j := &jvm{t: t, name: framework + " " + name, in: in, out: make(chan string, 100)}
		if j.log, err = os.Create(filepath.Join(t.TempDir(), name+".log")); err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = j.log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if text, ok := strings.CutPrefix(lines.Text(), "@ "); ok {
					j.out <- text
				} else {
					fmt.Fprintln(j.log, lines.Text())
				}
			}
			_ = cmd.Wait()
			close(j.out)
		}()
		j.kill = func() {
			_ = cmd.Process.Kill()
			<-ended
		}
		t.Cleanup(func() {
			j.kill()
			if t.Failed() {
				text, _ := os.ReadFile(j.log.Name())
				t.Logf("%s said:\n%s", j.name, text[max(0, len(text)-6000):])
			}
		})
		all = append(all, j)
	}
	for _, j := range all {
		j.answer("its start")
	}
	return all
}

// try has it do something and answers what it said, or why it could not.
func (j *jvm) try(format string, args ...any) (string, error) {
	j.t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	if _, err := fmt.Fprintln(j.in, line); err != nil {
		return "", err
	}
	return j.read(line)
}

func (j *jvm) read(what string) (string, error) {
	select {
	case text, ok := <-j.out:
		if !ok {
			return "", fmt.Errorf("%s ended at %q", j.name, what)
		}
		if said, ok := strings.CutPrefix(text, "OK "); ok {
			return said, nil
		}
		return "", fmt.Errorf("%s: %s: %s", j.name, what, text)
	case <-time.After(3 * time.Minute):
		return "", fmt.Errorf("%s does not answer to %q", j.name, what)
	}
}

func (j *jvm) answer(what string) {
	j.t.Helper()
	if _, err := j.read(what); err != nil {
		j.t.Fatal(err)
	}
}

// do is try for what must succeed.
func (j *jvm) do(format string, args ...any) string {
	j.t.Helper()
	said, err := j.try(format, args...)
	if err != nil {
		j.t.Fatal(err)
	}
	return said
}

// quit ends it as its framework ends on a signal.
func (j *jvm) quit() {
	j.in.Close()
	for range j.out {
	}
}

// reaches has a reference call until a provider has answered.
func (j *jvm) reaches(reference, want string) {
	j.t.Helper()
	harness.Eventually(j.t, 30*time.Second, func() error {
		if said := j.do("call %s x", reference); said != want+":x" {
			return fmt.Errorf("%s has %s answered by %s, not by %s", j.name, reference, said, want)
		}
		return nil
	})
}

// calls has a reference call until one provider has answered several times in a row: stock consumers take a moment to forget another.
func (j *jvm) calls(reference, want string) {
	j.t.Helper()
	harness.Eventually(j.t, 30*time.Second, func() error {
		for range 6 {
			said, err := j.try("call %s x", reference)
			if err == nil && said != want+":x" {
				err = fmt.Errorf("%s was answered by %q, not by %s", j.name, said, want)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
