package harness

import (
	"fmt"
	"io"
)

// Server tells of a real server that tests have started: a line of its own, with the name and version that the server itself
// says, neither of which has a space in it. Whoever runs the suite sees by it what was tested against.
func Server(out io.Writer, name, version string, pid int) {
	fmt.Fprintf(out, "server %s %s pid %d\n", name, version, pid)
}
