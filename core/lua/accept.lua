-- Accept jobs and enqueue their messages: all or nothing.
-- KEYS: pending of the jobs' lane, pending of the other lane, ledgers, cameras, drain, expiring, queue,
--       [idempotency key]
-- ARGV: prefix, idempotency value, idempotency seconds, most pending jobs when this lane's come,
--       most cameras, rate limit ('' or 'name images-per-second burst'), number of jobs,
--       per job: id, hour, camera, format, size, captured ms or '', expires ms or '',
--         images in the object that it shares or '',
--       then the messages.
-- Returns words: 'known' and the value stored with the idempotency key earlier, or 'limited' and the ms until
-- the rate limit has an image left, or 'cameras' when there are as many as may be, or 'accepted' or 'full', ms
-- now, jobs of the lane before these, jobs of the other lane, the measure of the drain: jobs, ms, since; when
-- accepted within a rate limit also the images left of it and the ms until it is whole.
local FIRST, WIDTH = 8, 8
local COUNTED_SECONDS = 60 -- longer than a call is repeated
local prefix, most, limit, jobs = ARGV[1], tonumber(ARGV[4]), ARGV[6], tonumber(ARGV[7])
local hour, camera = ARGV[FIRST + 1], ARGV[FIRST + 2]

-- Move a counter of an hour's row and of its camera's totals, and see to it that both are listed.
local function count(field, hour, camera, by)
  local row = hour .. ':' .. camera
  if redis.call('HINCRBY', prefix .. 'ledger:' .. row, field, by) == by then
    redis.call('ZADD', KEYS[3], hour, row)
    redis.call('ZADD', KEYS[4], hour, camera)
  end
  redis.call('HINCRBY', prefix .. 'totals:' .. camera, field, by)
end

if KEYS[8] then
  local known = redis.call('GET', KEYS[8])
  -- Its own value is that of this very call, repeated after a broken connection: see below.
  if known and known ~= ARGV[2] then
    -- The id made for this call tells it from others: repeated after a broken connection it counts once.
    local first = redis.call('SET', prefix .. 'counted:' .. ARGV[FIRST], '1', 'NX', 'EX', COUNTED_SECONDS)
    if first and known:match('^%S+') == ARGV[2]:match('^%S+') then count('duplicates', hour, camera, jobs) end
    return 'known ' .. known
  end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lane, other = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])
local drain = redis.call('HMGET', KEYS[5], 'jobs', 'ms', 'since', 'last')
local function answer(word, ahead)
  return string.format('%s %.0f %d %d %s %s %s', word, now, ahead, other, drain[1] or 0, drain[2] or 0, drain[3] or 0)
end
-- A client library that repeats the call after a broken connection must not count twice.
if redis.call('EXISTS', prefix .. 'job:' .. ARGV[FIRST]) == 1 then
  return answer('accepted', redis.call('ZRANK', KEYS[1], ARGV[FIRST]) or 0)
end
-- Messages of jobs that were cancelled, or expired, wait in the queue until a worker meets them.
local queued = redis.call('LLEN', KEYS[7])
local messages = #ARGV - (FIRST - 1 + jobs * WIDTH)
if lane + other + jobs > most or queued + messages > most then return answer('full', math.max(lane, queued)) end

local allowance = ''
if limit ~= '' then
  -- One number says it all: when the allowance will be whole again (the generic cell rate algorithm).
  local name, rate, burst = limit:match('^(%S+) (%S+) (%S+)$')
  local key, per_image = prefix .. 'rate:' .. name, 1000 / rate
  local whole = math.max(tonumber(redis.call('GET', key) or 0), now)
  local wait = whole - now - (burst - 1) * per_image
  if wait > 0 then return string.format('limited %.0f', math.ceil(wait)) end
  whole = whole + jobs * per_image
  redis.call('SET', key, string.format('%.3f', whole), 'PX', string.format('%.0f', math.ceil(whole - now)))
  local left = math.max(0, math.floor(burst - (whole - now) / per_image))
  allowance = string.format(' %d %.0f', left, math.ceil(whole - now))
end
-- Rows and totals stay for each camera, so a client that makes up names must not fill Redis. Its allowance has
-- been taken: its image was stored before it is refused here.
local seen, new = {}, 0
for job = 0, jobs - 1 do
  local name = ARGV[FIRST + job * WIDTH + 2]
  if not seen[name] then
    seen[name] = true
    if not redis.call('ZSCORE', KEYS[4], name) then new = new + 1 end
  end
end
if new > 0 and redis.call('ZCARD', KEYS[4]) + new > tonumber(ARGV[5]) then return 'cameras' end

if KEYS[8] then redis.call('SET', KEYS[8], ARGV[2], 'EX', ARGV[3]) end
-- Scores grow even if the clock is set back, so places in the queue stay what they were.
local score = math.max(now, (drain[4] or 0) + 0.001)
local rows = {}
local at = FIRST
for _ = 1, jobs do
  local id, hour, camera = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local record = {'state', 'queued', 'camera', camera, 'format', ARGV[at + 3], 'size', ARGV[at + 4]}
  if ARGV[at + 5] ~= '' then
    record[#record + 1], record[#record + 2] = 'captured', ARGV[at + 5]
  end
  if ARGV[at + 6] ~= '' then
    record[#record + 1], record[#record + 2] = 'expires', ARGV[at + 6]
    redis.call('ZADD', KEYS[6], ARGV[at + 6], id)
  end
  if ARGV[at + 7] ~= '' then
    record[#record + 1], record[#record + 2] = 'shard_size', ARGV[at + 7]
  end
  redis.call('HSET', prefix .. 'job:' .. id, unpack(record))
  redis.call('ZADD', KEYS[1], string.format('%.3f', score), id)
  score = score + 0.001
  local row = hour .. ':' .. camera
  rows[row] = rows[row] or {hour, camera, 0}
  rows[row][3] = rows[row][3] + 1
  at = at + WIDTH
end
for name, row in pairs(rows) do
  count('received', row[1], row[2], row[3])
  redis.call('HINCRBY', prefix .. 'ledger:' .. name, 'pending', row[3])
end
local last = string.format('%.3f', score - 0.001)
if lane + other == 0 then
  redis.call('HSET', KEYS[5], 'last', last, 'since', string.format('%.0f', now))
else
  redis.call('HSET', KEYS[5], 'last', last)
end
for message = at, #ARGV do redis.call('LPUSH', KEYS[7], ARGV[message]) end
return answer('accepted', lane) .. allowance
