package access

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

// ReasonBrowser is what an HTTP request is refused with that a web page may have made.
const ReasonBrowser components.Reason = "BROWSER_REFUSED"

// NotABrowser refuses, with ErrDenied, what a web page could have sent on behalf of a user who is let in: a request to a Host
// that is not loopback's (the page's own name, led here by its DNS), and any request with an Origin, a loopback one too, since
// other users of the machine may serve pages there and the sidecar serves none.
func NotABrowser(r *http.Request) error {
	if !loopbackHost(r.Host) {
		return refused("the Host %q is not this machine's loopback: use 127.0.0.1 or localhost", r.Host)
	}
	if origins := r.Header["Origin"]; len(origins) > 0 {
		return refused("the Origin %q: web pages may not call this API", origins[0])
	}
	return nil
}

func refused(format, arg string) error {
	return components.WithReason(fmt.Errorf("%w: "+format, components.ErrDenied, arg), ReasonBrowser)
}

func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
