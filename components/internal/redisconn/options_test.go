package redisconn_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	if err := redisconn.Defaults().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*redisconn.Options){
		"mode: ":              func(o *redisconn.Options) { o.Mode = "ring" },
		"addresses: a single": func(o *redisconn.Options) { o.Addresses = []string{"a:1", "b:1"} },
		"addresses: at least": func(o *redisconn.Options) { o.Addresses = nil },
		"master: ":            func(o *redisconn.Options) { o.Mode = redisconn.Sentinel },
		"sentinel_user":       func(o *redisconn.Options) { o.SentinelPassword = "x" },
		"password: missing":   func(o *redisconn.Options) { o.User = "u" },
		"db: ":                func(o *redisconn.Options) { o.Mode, o.DB = redisconn.Cluster, 1 },
		"prefix: ":            func(o *redisconn.Options) { o.Prefix = "a/b" },
		"timeout: ":           func(o *redisconn.Options) { o.Timeout = time.Hour },
		"tls: ":               func(o *redisconn.Options) { o.TLS.CA = "x" },
	} {
		o := redisconn.Defaults()
		change(&o)
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
