// Command dtm is DTM's server without its pages for people and its clients of registries, which take longer to compile than all the rest.
package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/dtm-labs/dtm/dtmsvr/entry"
)

// Version is what it says that it is.
var Version string

func main() {
	entry.Main(&Version)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
