package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/record"
)

// Each answers nil where its condition does not hold.
const setIfVersion = `
if redis.call("GETRANGE", KEYS[1], 1, 16) ~= ARGV[1] then return nil end
if ARGV[3] == "0" then return redis.call("SET", KEYS[1], ARGV[2]) end
return redis.call("SET", KEYS[1], ARGV[2], "PX", ARGV[3])`

var (
	deleteIfVersion = redisconn.NewScript(`
if redis.call("GETRANGE", KEYS[1], 1, 16) ~= ARGV[1] then return nil end
return redis.call("UNLINK", KEYS[1])`)

	// The item says whether it has an end.
	touch = redisconn.NewScript(`
if redis.call("EXISTS", KEYS[1]) == 0 then return nil end
redis.call("SETRANGE", KEYS[1], 0, ARGV[2])
if ARGV[1] == "0" then return redis.call("PERSIST", KEYS[1]) end
return redis.call("PEXPIRE", KEYS[1], ARGV[1])`)

	// The server counts, for a number of Lua cannot hold all of int64: the key is the bare value for a moment that nobody sees.
	increment = redisconn.NewScript(`
local delta, ttl, fresh, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local old = redis.call("GET", KEYS[1])
if not old then
	if ttl == "0" then redis.call("SET", KEYS[1], fresh .. delta) else redis.call("SET", KEYS[1], fresh .. delta, "PX", ttl) end
	return delta
end
if #old < 21 or string.byte(old) > 2 then return redis.error_reply("DAMAGED") end
local start = 21 + struct.unpack(">I4", string.sub(old, 18, 21))
redis.call("SET", KEYS[1], string.sub(old, start + 1), "KEEPTTL")
if type(redis.pcall("INCRBY", KEYS[1], delta)) ~= "number" then
	redis.call("SET", KEYS[1], old, "KEEPTTL")
	return nil
end
local sum = redis.call("GET", KEYS[1])
redis.call("SET", KEYS[1], string.sub(old, 1, 1) .. version .. string.sub(old, 18, start) .. sum, "KEEPTTL")
return sum`)
)

func (s *store) Increment(ctx context.Context, key string, delta int64, ttl time.Duration) (int64, error) {
	version, fresh := record.Encode(record.Item{Ends: ttl > 0})
	got, err := s.Eval(ctx, redisconn.Write, increment, []string{s.Prefix + key},
		strconv.FormatInt(delta, 10), ttl.Milliseconds(), fresh, version[:])
	switch {
	case errors.Is(err, redis.Nil):
		return 0, fmt.Errorf("%w: the value is no integer, or the sum would not be one of 64 bits", components.ErrInvalid)
	case err != nil && redis.HasErrorPrefix(err, "DAMAGED"):
		return 0, record.ErrDamaged
	case err != nil:
		return 0, err
	}
	sum, _ := got.(string)
	return strconv.ParseInt(sum, 10, 64)
}
