"""What the store does inside Redis: each script is one step that nothing comes between.

A session is one hash: o owner, u last use, t tag, l lease, x when the lease ends, h head, f number
of the first mark, n number after the last one, m0, m1 ... the marks. What is gone leaves a stub of
o and g, the fate. Sorted sets hold the sessions by last use, and a set for each owner its sessions.
All keys have one hash tag, so that a cluster keeps them together. Time is Redis's own.
"""

_START = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local function text(seconds) return string.format('%.6f', seconds) end
local function owned(owner) return ARGV[1] .. 'owner:' .. owner end
local function forget(key, id, owner, fate, seconds)
  redis.call('DEL', key)
  redis.call('HSET', key, 'o', owner, 'g', fate)
  redis.call('EXPIRE', key, seconds)
  redis.call('ZREM', ARGV[1] .. 'used', id)
  redis.call('SREM', owned(owner), id)
end
local function key_of(id) return ARGV[1] .. 'session:' .. id end
local function fields(key, ...)  -- none of a key that is no hash
  local found = redis.pcall('HMGET', key, ...)
  if not found.err then return found end
  if string.find(found.err, 'WRONGTYPE') then return {} end
  return redis.call('HMGET', key, ...)  -- which fails again: a cluster has moved it, say
end
local function number(text) return tonumber(text or '') end
"""

# ARGV: prefix, owner, at most, then for each session: id, tag, head, its only mark
CREATE = (
    _START
    + """
local limit = tonumber(ARGV[3])
if limit > 0 then
  local there, new = redis.call('SCARD', owned(ARGV[2])), 0
  for i = 4, #ARGV, 4 do
    if redis.call('EXISTS', key_of(ARGV[i])) == 0 then new = new + 1 end
  end
  if new > 0 and there + new > limit then return there end
end
for i = 4, #ARGV, 4 do
  local key = key_of(ARGV[i])
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'o', ARGV[2], 'u', text(now), 't', ARGV[i + 1], 'h', ARGV[i + 2],
      'f', 0, 'n', 1, 'm0', ARGV[i + 3])
    redis.call('ZADD', ARGV[1] .. 'used', text(now), ARGV[i])
    redis.call('SADD', owned(ARGV[2]), ARGV[i])
  end
end
return -1
"""
)

# ARGV: prefix, id, owner, known tag, idle seconds, key of a lease or nothing, lease seconds
FIND = (
    _START
    + """
local key = key_of(ARGV[2])
local s = fields(key, 'o', 'g', 'u', 't', 'l', 'x', 'h', 'f', 'n')
if s[1] ~= ARGV[3] then return {'gone', 'unknown'} end
if s[2] then return {'gone', s[2]} end
local used, first, next = number(s[3]), number(s[8]), number(s[9])
if not (used and s[4] and s[7] and first and next) then return {'damaged'} end
local held = s[5] and (number(s[6]) or 0) - now or 0
local idle = held > 0 and 0 or now - used
local limit = tonumber(ARGV[5])
if limit > 0 and idle > limit then return {'gone', 'expired'} end
if ARGV[6] ~= '' then
  if held > 0 and s[5] ~= ARGV[6] then return {'busy', text(held)} end
  redis.call('HSET', key, 'l', ARGV[6], 'x', text(now + ARGV[7]), 'u', text(now))
  redis.call('ZADD', ARGV[1] .. 'used', text(now), ARGV[2])
end
local found = {'found', s[4], text(idle)}
if s[4] == ARGV[4] then return found end
found[4] = s[7]
for i = first, next - 1 do found[#found + 1] = redis.call('HGET', key, 'm' .. i) end
return found
"""
)

# ARGV: prefix, id, lease, lease seconds; 0 gives the lease back
RENEW = (
    _START
    + """
local key = key_of(ARGV[2])
if fields(key, 'l')[1] ~= ARGV[3] then return 0 end
if ARGV[4] == '0' then
  redis.call('HDEL', key, 'l', 'x')  -- first, which a full Redis allows, and then what follows, too
else
  redis.call('HSET', key, 'x', text(now + ARGV[4]))
end
redis.call('HSET', key, 'u', text(now))
redis.call('ZADD', ARGV[1] .. 'used', text(now), ARGV[2])
return 1
"""
)

# ARGV: prefix, id, lease, tag that was found, new tag, head, skip, stop, marks to add
COMMIT = (
    _START
    + """
local key = key_of(ARGV[2])
local s = fields(key, 't', 'l', 'f', 'n')
if s[1] == ARGV[5] then return 1 end
if s[1] ~= ARGV[4] or s[2] ~= ARGV[3] then return 0 end
local first, stop = s[3] + ARGV[7], s[3] + ARGV[8]
local next = stop + #ARGV - 8
local values = {'t', ARGV[5], 'h', ARGV[6], 'f', first, 'n', next, 'u', text(now)}
for i = 9, #ARGV do
  values[#values + 1] = 'm' .. (stop + i - 9)
  values[#values + 1] = ARGV[i]
end
redis.call('HSET', key, unpack(values))
redis.call('HDEL', key, 'l', 'x')
for i = s[3], s[4] - 1 do
  if i < first or i >= next then redis.call('HDEL', key, 'm' .. i) end
end
redis.call('ZADD', ARGV[1] .. 'used', text(now), ARGV[2])
return 1
"""
)

# ARGV: prefix, id, owner, lease, fate, seconds for which the fate is remembered
END = (
    _START
    + """
local key = key_of(ARGV[2])
local s = fields(key, 'o', 'g', 'l')
if s[1] ~= ARGV[3] then return 0 end
if s[2] then return s[2] == ARGV[5] and 1 or 0 end
if s[3] ~= ARGV[4] then return 0 end
forget(key, ARGV[2], s[1], ARGV[5], ARGV[6])
return 1
"""
)

# ARGV: prefix, idle seconds, fate, seconds for which it is remembered, how many at once
EXPIRE = (
    _START
    + """
local ids = redis.call('ZRANGEBYSCORE', ARGV[1] .. 'used', '-inf', '(' .. text(now - ARGV[2]),
  'LIMIT', 0, ARGV[5])
local expired = 0
for _, id in ipairs(ids) do
  local key = key_of(id)
  local s = fields(key, 'o', 'l', 'x')
  if not s[1] then  -- no session of ours: it must not keep the others
    redis.call('ZREM', ARGV[1] .. 'used', id)
  elseif s[2] and (number(s[3]) or 0) > now then
    redis.call('ZADD', ARGV[1] .. 'used', text(now), id)
  else
    forget(key, id, s[1], ARGV[3], ARGV[4])
    expired = expired + 1
  end
end
return {expired, #ids, redis.call('ZCARD', ARGV[1] .. 'used')}
"""
)
