package zookeeper

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/registry"
)

func TestOptionsThatAreNone(t *testing.T) {
	defaults, _ := registry.Drivers.Defaults("zookeeper")
	if err := defaults.(Options).Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Options){
		"addresses: ":          func(o *Options) { o.Addresses = nil },
		"one needs the other":  func(o *Options) { o.Password = "p" },
		"it has a colon":       func(o *Options) { o.User, o.Password = "a:b", "p" },
		"prefix: \"\"":         func(o *Options) { o.Prefix = "" },
		"prefix: \"/\"":        func(o *Options) { o.Prefix = "/" },
		"prefix: \"/a/../b\"":  func(o *Options) { o.Prefix = "/a/../b" },
		"prefix: \"/a b\"":     func(o *Options) { o.Prefix = "/a b" },
		"session: 500ms":       func(o *Options) { o.Session = 500 * time.Millisecond },
		"timeout: 1h":          func(o *Options) { o.Timeout = time.Hour },
		"tls: there are optio": func(o *Options) { o.TLS.CA = "x" },
	} {
		o := defaults.(Options)
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, address := range []string{"10.0.0.1:7080", "[::1]:1", "a,b/c:1"} {
		if got, err := addressOf(url.PathEscape(address) + ",holder,7"); err != nil || got != address {
			t.Errorf("%q comes back as %q, %v", address, got, err)
		}
	}
	for _, bad := range []string{"", "a,b", "a,b,c,d", "%zz,b,c"} {
		if got, err := addressOf(bad); err == nil {
			t.Errorf("%q is the address %q", bad, got)
		}
	}
}
