package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// Each script answers an array: a token and the microseconds that are left of its lease, or 0 and those of the other owner's. Numbers of
// Lua are exact up to 2^53: enough for microseconds until the year 2255.
const begin = `
local at = redis.call("TIME")
local now = at[1] * 1000000 + at[2]
local had = redis.call("HMGET", KEYS[1], "t", "o", "e", "s", "c")
local token, ends = tonumber(had[1] or 0), tonumber(had[3] or 0)
local function text(n) return string.format("%.0f", n) end
local function keep(owner, lease, shared, call)
	redis.call("HSET", KEYS[1], "t", text(token), "o", owner, "e", text(now + lease), "s", shared, "c", call or "")
	redis.call("PEXPIRE", KEYS[1], text(math.ceil(lease / 1000) + 86400000))
	return {text(token), text(lease)}
end
`

var (
	take = redisconn.NewScript(begin + `
if ends <= now then
	token = math.max(token + 1, now)
	return keep(ARGV[1], tonumber(ARGV[2]), 0, ARGV[3])
end
if had[2] ~= ARGV[1] then return {"0", text(ends - now)} end
return keep(ARGV[1], tonumber(ARGV[2]), 1, had[5])`)

	renew = redisconn.NewScript(begin + `
if ends <= now or text(token) ~= ARGV[1] then return {"0", "0"} end
return keep(had[2], tonumber(ARGV[2]), had[4], had[5])`)

	unlock = redisconn.NewScript(begin + `
if ends <= now or text(token) ~= ARGV[1] then return {"0", "0"} end
return keep("", 0, 0, "")`)

	giveBack = redisconn.NewScript(begin + `
if ends <= now or had[5] ~= ARGV[1] or had[4] ~= "0" then return {"0", "0"} end
return keep("", 0, 0, "")`)
)

// answer is what a script has answered.
type answer struct {
	token uint64 // 0: the lock is another's, or nobody's
	left  time.Duration
	err   error
}

// held is the error for who must have had the lock.
func (a answer) held() error {
	if a.err == nil && a.token == 0 {
		return lock.Lost()
	}
	return a.err
}

func number(token uint64) string { return strconv.FormatUint(token, 10) }

func (l *locks) eval(ctx context.Context, s redisconn.Script, key string, args ...any) (a answer) {
	asked := time.Now()
	got, err := l.Eval(ctx, redisconn.Kept, s, []string{l.Prefix + key}, args...)
	if err != nil {
		return answer{err: err}
	}
	var micros int64
	pair, _ := got.([]any)
	if len(pair) == 2 {
		a.token, err = strconv.ParseUint(fmt.Sprint(pair[0]), 10, 64)
		micros, a.err = strconv.ParseInt(fmt.Sprint(pair[1]), 10, 64)
	}
	if len(pair) != 2 || err != nil || a.err != nil {
		return answer{err: fmt.Errorf("%s answered %v to the script of a lock", l.Where(), got)}
	}
	if a.left = time.Duration(micros) * time.Microsecond; a.token != 0 {
		a.left = lock.Left(a.left, asked)
	}
	return a
}
