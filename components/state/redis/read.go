package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/record"
	"github.com/outrigger-mesh/outrigger/components/state"
)

func item(r record.Item, left time.Duration) state.Item {
	return state.Item{Value: r.Value, ContentType: r.ContentType, Version: r.Version, TTL: left, Metadata: r.Metadata}
}

// Get implements state.Driver.
func (d *driver) Get(ctx context.Context, key string) (state.Item, error) {
	r, left, err := d.getter.Get(ctx, d.Client, d.key(items, key))
	return item(r, left), err
}

// decode makes an item of a value and what PTTL answered.
func decode(value string, ttl int64) (i state.Item, there bool, err error) {
	left, there := record.Left(ttl)
	if !there {
		return i, false, nil
	}
	r, err := record.Decode([]byte(value))
	return item(r, left), true, err
}

// Each item of an answer is two elements: PTTL and the value.
var getMany = redisconn.NewScript(`
local bytes = 0
for i = 1, #KEYS do
	bytes = bytes + redis.call("STRLEN", KEYS[i])
end
if bytes > tonumber(ARGV[1]) then return redis.error_reply("TOOMUCH") end
local found = {}
for i = 1, #KEYS do
	found[2 * i - 1] = redis.call("PTTL", KEYS[i])
	found[2 * i] = redis.call("GET", KEYS[i])
end
return found`)

// GetMany implements state.ManyGetter.
func (d whole) GetMany(ctx context.Context, keys []string) ([]state.GetResult, error) {
	stored := make([]string, len(keys))
	for i, key := range keys {
		stored[i] = d.key(items, key)
	}
	answer, err := d.Eval(ctx, redisconn.Read, getMany, stored, state.ManyBytes)
	if err != nil && redis.HasErrorPrefix(err, "TOOMUCH") {
		return nil, state.TooMuch()
	}
	found, err := d.array(answer, 2*len(keys), err)
	if err != nil {
		return nil, err
	}
	results := make([]state.GetResult, len(keys))
	for i := range results {
		value, there := found[2*i+1].(string)
		left, _ := found[2*i].(int64)
		if there {
			results[i].Item, there, results[i].Err = decode(value, left)
		}
		if !there {
			results[i].Err = components.ErrNotFound
		}
	}
	return results, nil
}

// array is the answer of a script, which has at least so many elements.
func (d *driver) array(answer any, least int, err error) ([]any, error) {
	if err != nil {
		return nil, err
	}
	all, ok := answer.([]any)
	if !ok || len(all) < least {
		return nil, fmt.Errorf("%s answered a script with %T of %d elements", d.Where(), answer, len(all))
	}
	return all, nil
}

// The answer is whether there are more, and three elements for each entry: the key, PTTL, and the value or its head. A key whose item
// has expired leaves the index, if the server takes writes.
var list = redisconn.NewScript(`
local prefix, from, to, limit, whole, page = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == "1", tonumber(ARGV[6])
local found, n, bytes = {0}, 0, 0
while true do
	local keys = redis.call("ZRANGEBYLEX", KEYS[1], from, to, "LIMIT", 0, 128)
	if #keys == 0 then return found end
	for _, name in ipairs(keys) do
		local key = prefix .. name
		local left = redis.call("PTTL", key)
		if left == -2 then
			redis.pcall("ZREM", KEYS[1], name)
		elseif n == limit then
			found[1] = 1
			return found
		else
			local value
			if whole then
				value = redis.call("GET", key)
			else
				value = redis.call("GETRANGE", key, 0, 20)
				if #value == 21 then value = redis.call("GETRANGE", key, 0, 20 + struct.unpack(">I4", string.sub(value, 18))) end
			end
			bytes = bytes + #name + #value
			if n > 0 and bytes > page then
				found[1] = 1
				return found
			end
			n = n + 1
			found[3 * n - 1], found[3 * n], found[3 * n + 1] = name, left, value
		end
	end
	from = "(" .. keys[#keys]
end`)

// List implements state.Driver.
func (d whole) List(ctx context.Context, prefix, after string, limit int, values bool) ([]state.Entry, bool, error) {
	app, rest := split(prefix)
	rest = rest[1:]
	from, to := "["+rest, "+"
	if end := beyond(rest); end != "" {
		to = "(" + end
	}
	if after != "" {
		if _, a := split(after); a[1:] >= rest {
			from = "(" + a[1:]
		}
	}
	whole := 0
	if values {
		whole = 1
	}
	answer, err := d.Eval(ctx, redisconn.Read, list, []string{d.key(index, app)}, d.key(items, app+"/"), from, to, limit, whole, state.PageBytes)
	found, err := d.array(answer, 1, err)
	if err != nil {
		return nil, false, err
	}
	entries := make([]state.Entry, 0, len(found)/3)
	for ; len(found) > 3; found = append(found[:1], found[4:]...) {
		name, value := fmt.Sprint(found[1]), fmt.Sprint(found[3])
		left, err := strconv.ParseInt(fmt.Sprint(found[2]), 10, 64)
		if err != nil {
			return nil, false, fmt.Errorf("%s answered %v milliseconds to the script of a list", d.Where(), found[2])
		}
		i, _, err := decode(value, left)
		if err != nil {
			return nil, false, fmt.Errorf("%q: %w", name, err)
		}
		if !values {
			i.Value = nil
		}
		entries = append(entries, state.Entry{Key: app + "/" + name, Item: i})
	}
	return entries, found[0] == int64(1), nil
}

// beyond is the least text that is greater than all that begin with prefix; empty if there is none.
func beyond(prefix string) string {
	b := []byte(prefix)
	for len(b) > 0 && b[len(b)-1] == 0xff {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return ""
	}
	b[len(b)-1]++
	return string(b)
}
