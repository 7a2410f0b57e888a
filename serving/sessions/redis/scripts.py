"""What the store does inside Redis: each script is one step that nothing comes between.

A session is one hash: o owner, u last use, t tag, l lease, x when the lease ends, h head, f number
of the first mark, n number after the last one, m0, m1 ... the marks. What is gone leaves a stub of
o and g, the fate. A sorted set holds the sessions by a time that is no later than their last use,
and a set for each owner its sessions. All keys begin with KEYS[1], whose hash tag keeps them
together in a cluster. Time is Redis's own. Every answer comes with ARGV[1], by which the asker
knows that it is its own.
"""

_START = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local function text(seconds) return string.format('%.6f', seconds) end
local function number(text) return tonumber(text or '') end
local function key_of(id) return KEYS[1] .. 'session:' .. id end
local function fields(key, ...)  -- none of a key that is no hash
  local found = redis.pcall('HMGET', key, ...)
  if not found.err then return found end
  if string.find(found.err, 'WRONGTYPE') then return {} end
  return redis.call('HMGET', key, ...)  -- which fails again: a cluster has moved it, say
end
"""

_FORGET = """
local function owned(owner) return KEYS[1] .. 'owner:' .. owner end
local function forget(key, id, owner, fate, seconds)
  redis.call('DEL', key)
  redis.call('HSET', key, 'o', owner, 'g', fate)
  redis.call('EXPIRE', key, seconds)
  redis.call('ZREM', KEYS[1] .. 'used', id)
  redis.call('SREM', owned(owner), id)
end
"""


def _script(answer: str, start: str = _START) -> str:
    return f"{start}local function answer(){answer}end\nreturn {{ARGV[1], answer()}}"


# ARGV: nonce, owner, at most, then for each session: id, tag, head, its only mark
CREATE = _script(
    """
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
    redis.call('ZADD', KEYS[1] .. 'used', text(now), ARGV[i])
    redis.call('SADD', owned(ARGV[2]), ARGV[i])
  end
end
return -1
""",
    _START + _FORGET,
)

# ARGV: nonce, id, owner, known tag, idle seconds, key of a lease or nothing, lease seconds
FIND = _script("""
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
end
local found = {'found', s[4], text(idle)}
if s[4] == ARGV[4] then return found end
found[4] = s[7]
for i = first, next - 1 do found[#found + 1] = redis.call('HGET', key, 'm' .. i) end
return found
""")

# ARGV: nonce, id, lease, lease seconds; 0 gives the lease back
RENEW = _script("""
local key = key_of(ARGV[2])
if fields(key, 'l')[1] ~= ARGV[3] then return 0 end
if ARGV[4] == '0' then
  redis.call('HDEL', key, 'l', 'x')  -- first, which a full Redis allows, and then what follows, too
else
  redis.call('HSET', key, 'x', text(now + ARGV[4]))
end
redis.call('HSET', key, 'u', text(now))
return 1
""")

# ARGV: nonce, id, lease, tag that was found, new tag, head, skip, stop, marks to add
COMMIT = _script("""
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
local over = {'l', 'x'}
for i = s[3], s[4] - 1 do
  if i < first or i >= next then over[#over + 1] = 'm' .. i end
end
redis.call('HDEL', key, unpack(over))
return 1
""")

# ARGV: nonce, id, owner, lease, fate, seconds for which the fate is remembered
END = _script(
    """
local key = key_of(ARGV[2])
local s = fields(key, 'o', 'g', 'l')
if s[1] ~= ARGV[3] then return 0 end
if s[2] then return s[2] == ARGV[5] and 1 or 0 end
if s[3] ~= ARGV[4] then return 0 end
forget(key, ARGV[2], s[1], ARGV[5], ARGV[6])
return 1
""",
    _START + _FORGET,
)

# ARGV: nonce, idle seconds, fate, seconds for which it is remembered, how many at once
EXPIRE = _script(
    """
local before = now - ARGV[2]
local ids = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'used', '-inf', '(' .. text(before),
  'LIMIT', 0, ARGV[5])
local expired = 0
for _, id in ipairs(ids) do
  local key = key_of(id)
  local s = fields(key, 'o', 'u', 'l', 'x')
  local is_held = s[3] and (number(s[4]) or 0) > now
  local used = is_held and now or number(s[2]) or 0
  if not s[1] then  -- no session of ours: it must not keep the others
    redis.call('ZREM', KEYS[1] .. 'used', id)
  elseif used >= before then
    redis.call('ZADD', KEYS[1] .. 'used', text(used), id)
  else
    forget(key, id, s[1], ARGV[3], ARGV[4])
    expired = expired + 1
  end
end
return {expired, #ids, redis.call('ZCARD', KEYS[1] .. 'used')}
""",
    _START + _FORGET,
)
