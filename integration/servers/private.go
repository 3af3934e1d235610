package servers

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

// outerNet is set in the process that Private has started: the descriptor of the network that it came from.
const outerNet = "OUTRIGGER_OUTER_NET"

// Private moves the whole process to a network of its own, which has only a loopback, by starting it anew there with the same
// process id. Call it first in main or TestMain. Only root may; it does nothing where it is done already. What is installed is
// still fetched through the network that it came from.
func Private() error {
	if os.Getenv(outerNet) != "" || isPrivate() {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // a thread's network is its own, and that of the thread which calls exec is the new program's
	outer, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("a network of its own needs root: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), outerNet+"="+strconv.Itoa(outer)))
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// isPrivate answers whether the process is in a network in which there is only a loopback.
func isPrivate() bool {
	all, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			return false
		}
	}
	return true
}

// outer is the descriptor of the network that the process came from, -1 if it was not moved. Servers do not inherit it.
var outer = sync.OnceValue(func() int {
	fd, err := strconv.Atoi(os.Getenv(outerNet))
	if err != nil {
		return -1
	}
	unix.CloseOnExec(fd)
	return fd
})

// What is installed is fetched through the network that the process came from.
func init() {
	install.Through(func() []string {
		if fd := outer(); fd >= 0 {
			return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), fd), "--"}
		}
		return nil
	})
}
