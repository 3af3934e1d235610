package redis

import "github.com/outrigger-mesh/outrigger/components/internal/redisconn"

// common is what the scripts of a group begin with. KEYS: the stream, what the group's keys begin with. ARGV: the group, the consumer,
// the channel.
const common = `
local stream, base, group, me, channel = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function number(n) return string.format('%.0f', n) end
local function wait(id, due)
  redis.call('XCLAIM', stream, group, '-', 0, id, 'JUSTID')
  redis.call('ZADD', base .. '/d', number(due), id)
end
local function finish(id)
  redis.call('XACK', stream, group, id)
  redis.call('HDEL', base .. '/a', id)
  local key = redis.call('HGET', base .. '/w', id)
  if not key then return false end
  redis.call('HDEL', base .. '/w', id)
  local following = redis.call('LPOP', base .. '/k/' .. key)
  if not following then
    redis.call('HDEL', base .. '/l', key)
    return false
  end
  redis.call('HSET', base .. '/l', key, following)
  redis.call('ZADD', base .. '/d', 0, following)
  return true
end
`

// joinScript makes a group unless it is there, and moves it if that is asked for. It answers how often it was moved, and whether it is
// new. ARGV: after how long the consumer is given up; where a new group begins; where it is moved to, or nothing.
var joinScript = redisconn.NewScript(common + `
local timeout, from, to = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local function wipe()
  for _, key in ipairs(redis.call('HKEYS', base .. '/l')) do redis.call('DEL', base .. '/k/' .. key) end
  redis.call('DEL', base .. '/l', base .. '/w', base .. '/d', base .. '/a', base .. '/t')
  redis.call('INCR', base .. '/m')
end
local new = 0
local made = redis.pcall('XGROUP', 'CREATE', stream, group, from, 'MKSTREAM')
if not made.err then
  new = 1
  wipe()
elseif not string.find(made.err, 'BUSYGROUP') then
  return made
end
if to ~= '' then
  redis.call('XGROUP', 'DESTROY', stream, group)
  redis.call('XGROUP', 'CREATE', stream, group, to)
  wipe()
  redis.call('PUBLISH', channel, group)
end
redis.call('ZADD', base .. '/c', number(now + timeout), me)
return {tonumber(redis.call('GET', base .. '/m') or '0'), new}
`)

// takeScript delivers what there is to a consumer, up to so many of so many bytes; with the number of the last time it answers the same
// again. Consumers that are not heard of lose what they have. It answers how often the group was moved, after how many milliseconds
// there is something more, or -1, of each event its id, its attempt and its fields, how many the consumer had before, and the time. ARGV: after how long the consumer is given
// up, a number, how many, bytes.
var takeScript = redisconn.NewScript(common + `
local timeout, nonce, n, bytes = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
redis.call('ZADD', base .. '/c', number(now + timeout), me)
local moved = tonumber(redis.call('GET', base .. '/m') or '0')
for _, gone in ipairs(redis.call('ZRANGE', base .. '/c', '-inf', number(now), 'BYSCORE', 'LIMIT', 0, 1)) do
  local pending = redis.call('XPENDING', stream, group, '-', '+', 500, gone)
  for _, p in ipairs(pending) do wait(p[1], 0) end
  if #pending < 500 then
    redis.call('ZREM', base .. '/c', gone)
    redis.call('HDEL', base .. '/t', gone)
    redis.call('XGROUP', 'DELCONSUMER', stream, group, gone)
  end
end
local had = 0
for _, c in ipairs(redis.call('XPENDING', stream, group)[4] or {}) do
  if c[1] == me then had = tonumber(c[2]) end
end
local out = {}
if n == 0 then return {moved, -1, out, had, now} end
local last = redis.call('HGET', base .. '/t', me)
if last and string.sub(last, 1, #nonce + 1) == nonce .. ' ' then
  for id in string.gmatch(string.sub(last, #nonce + 2), '%S+') do
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then out[#out+1] = {id, tonumber(redis.call('HGET', base .. '/a', id) or '1'), entry[2]} end
  end
  return {moved, 0, out, had, now}
end
local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i+1] end
  end
end
local ids, full = {}, false
local function give(id, fields)
  out[#out+1] = {id, redis.call('HINCRBY', base .. '/a', id, 1), fields}
  ids[#ids+1] = id
  bytes = bytes - tonumber(field(fields, 'z') or '0')
end
for _, id in ipairs(redis.call('ZRANGE', base .. '/d', '-inf', number(now), 'BYSCORE', 'LIMIT', 0, n)) do
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if not entry then
    redis.call('ZREM', base .. '/d', id)
    finish(id)
  elseif tonumber(field(entry[2], 'z') or '0') > bytes then
    full = true
    break
  else
    redis.call('ZREM', base .. '/d', id)
    redis.call('XCLAIM', stream, group, me, 0, id, 'JUSTID')
    give(id, entry[2])
  end
end
while not full and #out < n do
  local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', n - #out, 'STREAMS', stream, '>')
  if not read then break end
  for _, entry in ipairs(read[1][2]) do
    local id, fields = entry[1], entry[2]
    local key = field(fields, 'k')
    if key then redis.call('HSET', base .. '/w', id, key) end
    if key and redis.call('HSETNX', base .. '/l', key, id) == 0 then
      redis.call('RPUSH', base .. '/k/' .. key, id)
      redis.call('XCLAIM', stream, group, '-', 0, id, 'JUSTID')
    elseif full or tonumber(field(fields, 'z') or '0') > bytes then
      full = true
      wait(id, 0)
    else
      give(id, fields)
    end
  end
end
if #ids > 0 then redis.call('HSET', base .. '/t', me, nonce .. ' ' .. table.concat(ids, ' ')) end
local due = redis.call('ZRANGE', base .. '/d', 0, 0, 'WITHSCORES')[2]
local after = -1
if #out == n then after = 0
elseif due and not full then after = math.max(tonumber(due) - now, 0) end
return {moved, after, out, had, now}
`)

// compareScript gives back what the consumer is taken to have and had not at a time, and answers how many those are. ARGV: the time, the ids of what it
// had.
var compareScript = redisconn.NewScript(common + `
local has, back = {}, 0
for i = 5, #ARGV do has[ARGV[i]] = true end
for _, p in ipairs(redis.call('XPENDING', stream, group, '-', '+', 100000, me)) do
  if not has[p[1]] and now - p[3] <= tonumber(ARGV[4]) then
    wait(p[1], 0)
    back = back + 1
  end
end
if back > 0 then redis.call('PUBLISH', channel, group) end
return {back}
`)

// settleScript takes what became of deliveries that the consumer has, and passes over those that it has not. ARGV: of each how often the
// group had been moved, the id, the attempt, the outcome, the delay.
var settleScript = redisconn.NewScript(common + `
local moved = redis.call('GET', base .. '/m') or '0'
local news = false
for i = 4, #ARGV, 5 do
  local id, attempt, outcome = ARGV[i+1], ARGV[i+2], ARGV[i+3]
  local pending = ARGV[i] == moved and redis.call('XPENDING', stream, group, id, id, 1)[1]
  if pending and pending[2] == me and redis.call('HGET', base .. '/a', id) == attempt then
    if outcome == 'done' then
      news = finish(id) or news
    else
      local due = 0
      if tonumber(ARGV[i+4]) > 0 then due = now + tonumber(ARGV[i+4]) end
      if outcome == 'returned' then redis.call('HINCRBY', base .. '/a', id, -1) end
      wait(id, due)
      news = true
    end
  end
end
if news then redis.call('PUBLISH', channel, group) end
return 0
`)

// leaveScript ends a consumer. What it has was never heard of.
var leaveScript = redisconn.NewScript(common + `
local pending = redis.call('XPENDING', stream, group, '-', '+', 100000, me)
for _, p in ipairs(pending) do
  redis.call('HINCRBY', base .. '/a', p[1], -1)
  wait(p[1], 0)
end
redis.call('ZREM', base .. '/c', me)
redis.call('HDEL', base .. '/t', me)
redis.call('XGROUP', 'DELCONSUMER', stream, group, me)
if #pending > 0 then redis.call('PUBLISH', channel, group) end
return 0
`)
