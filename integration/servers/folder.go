package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const prefix = "outrigger-servers-"

// Mark is the variable with the name of a run of suites: all that it starts has it.
const Mark = "OUTRIGGER_RUN"

// nodeDir is the variable that each process of a server has, with the folder of its data.
const nodeDir = "OUTRIGGER_SERVER"

// folder makes a temporary folder. Its lock, which has the run's name, is held while the process lives, by which sweep tells whose is gone; it has its name,
// by which sweep finds it, when the lock is held.
func folder(name string) (dir string, held *os.File, err error) {
	if dir, err = os.MkdirTemp("", "."+prefix+name+"-"); err != nil {
		return "", nil, err
	}
	held, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(held.Fd()), syscall.LOCK_EX)
	}
	if err == nil {
		_, err = held.WriteString(os.Getenv(Mark))
	}
	if err == nil {
		err = os.Chmod(dir, 0o711) // servers that refuse root run as their own users below it
	}
	if named := filepath.Join(filepath.Dir(dir), filepath.Base(dir)[1:]); err == nil {
		if err = os.Rename(dir, named); err == nil {
			dir = named
		}
	}
	if err != nil {
		err = errors.Join(err, held.Close(), os.RemoveAll(dir))
	}
	return dir, held, err
}

// sweep removes the folders of processes that were killed before they could: their servers ended with them. It answers those of that run.
func sweep(run string) (swept []string) {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*", "lock"))
	for _, path := range locks {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue // it went, or is another user's
		}
		if dir := filepath.Dir(path); syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			if of, err := os.ReadFile(path); err == nil && run != "" && string(of) == run {
				swept = append(swept, dir)
			}
			dropShared(filepath.Join(dir, "postgres"))
			os.RemoveAll(dir)
		}
		f.Close()
	}
	return swept
}

// Left answers what a run of suites that is over has left behind: servers, and their folders, which are removed.
func Left(run string) (left []string) {
	// Servers end with those who have started them, a moment later.
	_ = until(context.Background(), stopTime, func(context.Context) error {
		if left = running(run); len(left) > 0 {
			return errors.New("they run")
		}
		return nil
	})
	for _, dir := range sweep(run) {
		left = append(left, "folder "+dir)
	}
	return left
}

// running are the servers that a run has started and that have not ended, for people.
func running(run string) (all []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		text, _ := os.ReadFile(f) // it may have ended, or be another user's
		var ours, server bool
		for variable := range strings.SplitSeq(string(text), "\x00") {
			ours, server = ours || variable == Mark+"="+run, server || strings.HasPrefix(variable, nodeDir+"=")
		}
		if name, err := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline")); ours && server && err == nil {
			all = append(all, fmt.Sprintf("process %s: %.200s", filepath.Base(filepath.Dir(f)), strings.ReplaceAll(string(name), "\x00", " ")))
		}
	}
	return all
}
