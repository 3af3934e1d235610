package servers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tree is a process and all that it has started, itself first. Those that have ended and wait to be asked for count as gone.
func tree(root int) []int {
	children := map[int][]int{}
	alive := false
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		pid, parent, ok := stat(path)
		if ok {
			children[parent] = append(children[parent], pid)
			alive = alive || pid == root
		}
	}
	if !alive {
		return nil
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// stat reads the process and its parent from /proc/PID/stat, which has the program's name, with any character, in parentheses.
func stat(path string) (pid, parent int, alive bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false // it went
	}
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 2 {
		return 0, 0, false
	}
	pid, err = strconv.Atoi(string(text[:bytes.IndexByte(text, ' ')]))
	parent, failed := strconv.Atoi(fields[1])
	return pid, parent, err == nil && failed == nil && fields[0] != "Z" && fields[0] != "X"
}

func signal(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		syscall.Kill(pid, sig)
	}
}

// gone waits until none of the processes is there.
func gone(pids []int, limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if !slices.ContainsFunc(pids, func(pid int) bool {
			_, _, alive := stat(fmt.Sprintf("/proc/%d/stat", pid))
			return alive
		}) {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// listener is the first of the processes that listens on a TCP port.
func listener(pids []int, port int) (int, error) {
	sockets, err := listening(port)
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range open {
			if at, err := os.Readlink(fd); err == nil && slices.Contains(sockets, at) {
				return pid, nil
			}
		}
	}
	return 0, fmt.Errorf("none of %d listens on port %d", pids, port)
}

// listening are the sockets that listen on a port, named as the links in /proc/PID/fd are.
func listening(port int) (sockets []string, err error) {
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(table)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		const at, state, inode = 1, 3, 9
		suffix := fmt.Sprintf(":%04X", port)
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if c := strings.Fields(lines.Text()); len(c) > inode && strings.HasSuffix(c[at], suffix) && c[state] == "0A" {
				sockets = append(sockets, "socket:["+c[inode]+"]")
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return sockets, nil
}
