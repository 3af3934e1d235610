package servers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports of servers lie below those that the system gives to clients, so that none is taken while its server is down.
const (
	firstPort = 20000
	lastPort  = 31000 // that of Nacos and its next thousand are below the system's, too
)

var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// freePort is a port at which, and at some distances from it, nobody listens; each is given once in a process.
func freePort(distances ...int) (int, error) {
	given.Lock()
	defer given.Unlock()
tries:
	for range 1000 {
		at := firstPort + rand.IntN(lastPort-firstPort)
		all := []int{at}
		for _, d := range distances {
			all = append(all, at+d)
		}
		for _, p := range all {
			if given.ports[p] || !free(p) {
				continue tries
			}
		}
		for _, p := range all {
			given.ports[p] = true
		}
		return at, nil
	}
	return 0, errors.New("no port is free")
}

func free(port int) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// freePorts are n of them.
func freePorts(n int) ([]int, error) {
	all := make([]int, n)
	for i := range all {
		var err error
		if all[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
