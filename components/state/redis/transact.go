package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/record"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// The keys are those of the operations, then the index and what expires if there are operations and an index, then the others where
// ARGV says. Writes come after all that can fail, and first those that a server without memory refuses: with the first of them it
// refuses the script.
var transact = redisconn.NewScript(`
local n, cut = tonumber(ARGV[1]), tonumber(ARGV[2])
local idem, digest, versions, idemTime = tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local own, forward, barrierTime = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local fence, token, fenceTime = tonumber(ARGV[10]), ARGV[11], ARGV[12]
local function keep(key, value, time)
	if time == "0" then redis.call("SET", key, value) else redis.call("SET", key, value, "PX", time) end
end

if idem > 0 then
	local had = redis.call("GET", KEYS[idem])
	if had and string.sub(had, 1, 32) ~= digest then return {"REUSED"} end
	if had then return {"AGAIN", string.sub(had, 33)} end
end
local outcome, newest = "APPLIED", false
if own > 0 then
	local by = redis.call("GET", KEYS[own])
	if by == "itself" then outcome = "REPEATED"
	elseif by then outcome = "SUSPENDED"
	elseif forward > 0 and redis.call("EXISTS", KEYS[forward]) == 0 then outcome = "EMPTY" end
end
if outcome == "APPLIED" then
	newest = fence > 0 and redis.call("GET", KEYS[fence])
	if newest and token < newest then return {"STALE", newest} end
	for i = 1, n do
		local condition = ARGV[10 + 4 * i]
		if condition == "absent" then
			if redis.call("EXISTS", KEYS[i]) == 1 then return {"EXISTS", i} end
		elseif condition ~= "" and redis.call("GETRANGE", KEYS[i], 1, 16) ~= condition then
			return {"CONFLICT", i, redis.call("GETRANGE", KEYS[i], 1, 16)}
		end
	end
end

if own > 0 and (outcome == "APPLIED" or outcome == "EMPTY") then keep(KEYS[own], "itself", barrierTime) end
if outcome == "EMPTY" then keep(KEYS[forward], "other", barrierTime) end
if idem > 0 then keep(KEYS[idem], digest .. outcome .. " " .. (outcome == "APPLIED" and versions or ""), idemTime) end
if outcome ~= "APPLIED" then return {outcome} end
if fence > 0 and (token ~= newest or fenceTime ~= "0") then keep(KEYS[fence], token, fenceTime) end
local at = redis.call("TIME")
local now = at[1] * 1000 + math.floor(at[2] / 1000)
for i = 1, n do
	if ARGV[9 + 4 * i] == "set" then
		local time = ARGV[12 + 4 * i]
		keep(KEYS[i], ARGV[11 + 4 * i], time)
		if cut > 0 then
			local name = string.sub(KEYS[i], cut + 1)
			redis.call("ZADD", KEYS[n + 1], 0, name)
			if time == "0" then
				redis.call("ZREM", KEYS[n + 2], name)
			else
				redis.call("ZADD", KEYS[n + 2], now + time, name)
			end
		end
	end
end
for i = 1, n do
	if ARGV[9 + 4 * i] == "delete" then
		redis.call("UNLINK", KEYS[i])
		if cut > 0 then
			local name = string.sub(KEYS[i], cut + 1)
			redis.call("ZREM", KEYS[n + 1], name)
			redis.call("ZREM", KEYS[n + 2], name)
		end
	end
end
if cut > 0 and n > 0 then
	for _, name in ipairs(redis.call("ZRANGEBYSCORE", KEYS[n + 2], "-inf", now - 1000, "LIMIT", 0, 8)) do
		redis.call("ZREM", KEYS[n + 2], name)
		if redis.call("EXISTS", string.sub(KEYS[1], 1, cut) .. name) == 0 then redis.call("ZREM", KEYS[n + 1], name) end
	end
end
return {outcome}`)

var kinds = map[state.Kind]string{state.Set: "set", state.Delete: "delete", state.Check: "check"}

// Transact implements state.Driver.
func (d *driver) Transact(ctx context.Context, t state.Transaction) (state.Result, error) {
	keys := make([]string, 0, len(t.Operations)+6)
	operations := make([]any, 0, 4*len(t.Operations))
	versions := make([]string, len(t.Operations))
	for i := range t.Operations {
		op := &t.Operations[i]
		keys = append(keys, d.key(items, op.Key))
		var value []byte
		if op.Kind == state.Set {
			var id record.ID
			id, value = record.Encode(record.Item{Ends: op.Item.TTL > 0, ContentType: op.Item.ContentType, Metadata: op.Item.Metadata, Value: op.Item.Value})
			versions[i] = id.String()
		}
		operations = append(operations, kinds[op.Kind], condition(op.Condition), value, op.Item.TTL.Milliseconds())
	}
	cut := 0 // where in its key the name of an item begins
	if len(keys) > 0 && !d.options.Spread {
		app, _ := split(t.Operations[0].Key)
		cut = len(d.key(items, app+"/"))
		keys = append(keys, d.key(index, app), d.key(expiry, app))
	}
	at := func(key string) int {
		keys = append(keys, key)
		return len(keys)
	}
	args := append(make([]any, 0, 12+len(operations)), len(t.Operations), cut)
	args = append(args, d.idempotency(t, versions, at)...)
	args = append(args, d.barrier(t.Barrier, at)...)
	args = append(args, d.fence(t.Fence, at)...)
	answer, err := d.Eval(ctx, redisconn.Kept, transact, keys, append(args, operations...)...)
	if err != nil && redis.HasErrorPrefix(err, "CROSSSLOT") {
		return state.Result{}, crossSlot(t)
	}
	all, err := d.array(answer, 1, err)
	if err != nil {
		return state.Result{}, err
	}
	return d.result(t, versions, all)
}

// condition is what has to hold as the script knows it.
func condition(c state.Condition) any {
	switch {
	case c.IfAbsent:
		return "absent"
	case c.IfVersion != "":
		return record.Parse(c.IfVersion)
	}
	return ""
}

func (d *driver) idempotency(t state.Transaction, versions []string, at func(string) int) []any {
	if t.IdempotencyKey == "" {
		return []any{0, "", "", 0}
	}
	return []any{at(d.key(idempotency, t.IdempotencyKey)), t.Digest, strings.Join(versions, ","), milliseconds(d.options.Idempotency)}
}

func (d *driver) barrier(b state.Barrier, at func(string) int) []any {
	if b == (state.Barrier{}) {
		return []any{0, 0, 0}
	}
	key := func(b state.Barrier) string { return d.key(barriers, b.GID+"\x00"+b.Branch+"\x00"+b.Op) }
	own, forward := at(key(b)), 0
	if f, compensates := b.Forward(); compensates {
		forward = at(key(f))
	}
	return []any{own, forward, milliseconds(d.options.Barriers)}
}

// fence compares tokens as texts of one length: Lua has no integers of 64 bits.
func (d *driver) fence(f state.Fence, at func(string) int) []any {
	if f == (state.Fence{}) {
		return []any{0, "", 0}
	}
	return []any{at(d.key(fences, f.Name+"\x00"+f.Component)), fmt.Sprintf("%020d", f.Token), milliseconds(d.options.Fences)}
}

// milliseconds rounds up: nothing is forgotten before its time.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

func crossSlot(t state.Transaction) error {
	names := make([]string, len(t.Operations))
	for i, op := range t.Operations {
		_, name := split(op.Key)
		names[i] = strconv.Quote(name[1:])
	}
	return fmt.Errorf("%w: the keys %s are in different slots of the cluster; those with the same {tag} are in one", components.ErrInvalid, strings.Join(names, ", "))
}

// result is what the script's answer means.
func (d *driver) result(t state.Transaction, versions []string, answer []any) (state.Result, error) {
	more := func(i int) string {
		if i >= len(answer) {
			return ""
		}
		return fmt.Sprint(answer[i])
	}
	operation := func(err error) error {
		i, _ := strconv.Atoi(more(1))
		return &state.OperationError{Index: i - 1, Err: err}
	}
	switch outcome := state.Outcome(more(0)); outcome {
	case state.Applied:
		return state.Result{Outcome: outcome, Versions: versions}, nil
	case state.Repeated, state.Empty, state.Suspended:
		return state.Result{Outcome: outcome}, nil
	case "AGAIN":
		return d.again(t, more(1))
	case "REUSED":
		return state.Result{}, state.KeyReused()
	case "STALE":
		newest, err := strconv.ParseUint(more(1), 10, 64)
		if err != nil {
			return state.Result{}, fmt.Errorf("%w: the newest token of %q is %q", components.ErrDamaged, t.Fence.Name, more(1))
		}
		return state.Result{}, state.StaleFence(t.Fence.Token, newest)
	case "EXISTS":
		return state.Result{}, operation(fmt.Errorf("%w: the key is there", components.ErrExists))
	case "CONFLICT":
		var id record.ID
		if copy(id[:], more(2)) == 0 {
			return state.Result{}, operation(fmt.Errorf("%w: the key is not there", components.ErrConflict))
		}
		return state.Result{}, operation(fmt.Errorf("%w: the key is there in version %s", components.ErrConflict, id))
	default:
		return state.Result{}, fmt.Errorf("%s answered %q to the script of a transaction", d.Where(), outcome)
	}
}

// again is the first answer to an idempotency key.
func (d *driver) again(t state.Transaction, answer string) (state.Result, error) {
	outcome, versions, ok := strings.Cut(answer, " ")
	r := state.Result{Outcome: state.Outcome(outcome)}
	if r.Outcome == state.Applied {
		r.Versions = make([]string, len(t.Operations))
		if len(t.Operations) > 0 {
			r.Versions = strings.Split(versions, ",")
		}
	}
	if !ok || len(r.Versions) != len(t.Operations) && r.Outcome == state.Applied {
		return state.Result{}, errors.Join(components.ErrDamaged, fmt.Errorf("the answer that was kept for the idempotency key is %q", answer))
	}
	return r, nil
}
