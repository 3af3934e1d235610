package redis_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/state/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	good := redis.Options{Redis: redisconn.Defaults(), Idempotency: time.Hour, Barriers: time.Hour}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*redis.Options){
		"idempotency: ": func(o *redis.Options) { o.Idempotency = 0 },
		"barriers: ":    func(o *redis.Options) { o.Barriers = time.Nanosecond },
		"fences: ":      func(o *redis.Options) { o.Fences = -1 },
		"spread: ":      func(o *redis.Options) { o.Spread = true },
		"mode: ":        func(o *redis.Options) { o.Redis.Mode = "" },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
