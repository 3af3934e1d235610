package access

import (
	"errors"
	"net/http"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

func TestNotABrowser(t *testing.T) {
	for _, c := range []struct {
		host, origin string
		ok           bool
	}{
		{"127.0.0.1:7071", "", true}, {"127.0.0.1", "", true}, {"127.9.9.9:1", "", true}, {"localhost:7071", "", true},
		{"LOCALHOST", "", true}, {"[::1]:7071", "", true}, {"[::1]", "", true}, {"[::ffff:127.0.0.1]:7071", "", true},
		{"", "", false}, {"evil.example", "", false}, {"evil.example:7071", "", false}, {"localhost.evil.example", "", false},
		{"127.0.0.1.evil.example", "", false}, {"127.0.0.1.:7071", "", false}, {"10.0.0.1:7071", "", false}, {"0.0.0.0:7071", "", false}, {"[::]:7071", "", false},
		{"127.0.0.1:7071", "https://evil.example", false}, {"127.0.0.1:7071", "null", false}, {"localhost:7071", "http://localhost:7071", false},
	} {
		r := &http.Request{Host: c.host, Header: http.Header{}}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		err := NotABrowser(r)
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, components.ErrDenied) || reason(err) != ReasonBrowser) {
			t.Errorf("Host %q, Origin %q: %v", c.host, c.origin, err)
		}
	}
}
