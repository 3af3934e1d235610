package etcdconn

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestOptionsThatAreNone(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Options){
		"addresses: ":                   func(o *Options) { o.Addresses = nil },
		"addresses: \"http://a:1\"":     func(o *Options) { o.Addresses = []string{"http://a:1"} },
		"user, password: one needs the": func(o *Options) { o.User = "u" },
		"tls: cert and key go together": func(o *Options) { o.TLS.Enabled, o.TLS.Cert = true, "c" },
		"timeout: 100ms":                func(o *Options) { o.Timeout = 100 * time.Millisecond },
	} {
		o := Defaults()
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, prefix := range []string{"", "a\x00", "a\xff"} {
		if CheckPrefix(prefix) == nil {
			t.Errorf("the prefix %q is taken", prefix)
		}
	}
}

// TestWhoSharesAConnection: those with the same options, and the key tells nothing.
func TestWhoSharesAConnection(t *testing.T) {
	a := Defaults()
	a.User, a.Password = "u", "canary"
	b := a
	b.Addresses = append([]string{}, a.Addresses...)
	if a.key() != b.key() || strings.Contains(fmt.Sprint(a.key()), "canary") {
		t.Errorf("%v, %v", a.key(), b.key())
	}
	b.Password = "another"
	if a.key() == b.key() {
		t.Error("two passwords share a connection")
	}
}

func TestSeconds(t *testing.T) {
	for lease, want := range map[time.Duration]int64{time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, 24 * time.Hour: 86400} {
		if got := Seconds(lease); got != want {
			t.Errorf("%s is %d s, want %d", lease, got, want)
		}
	}
}
