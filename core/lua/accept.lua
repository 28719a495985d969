-- Accept jobs and enqueue their messages: all or nothing.
-- KEYS: pending, ledgers, queue, [idempotency key]
-- ARGV: prefix, idempotency value, idempotency seconds, number of jobs,
--       per job: id, hour, camera, format, size, captured ms or '',
--       then the messages.
-- Returns nil when accepted, or the value stored with the idempotency key earlier.
local prefix, jobs = ARGV[1], tonumber(ARGV[4])
if KEYS[4] then
  local known = redis.call('GET', KEYS[4])
  if known then
    if known ~= ARGV[2] then
      redis.call('HINCRBY', prefix .. 'ledger:' .. ARGV[6] .. ':' .. ARGV[7], 'duplicates', jobs)
      redis.call('ZADD', KEYS[2], 'NX', ARGV[6], ARGV[6] .. ':' .. ARGV[7])
    end
    return known
  end
end
-- A client library that repeats the call after a broken connection must not count twice.
if redis.call('EXISTS', prefix .. 'job:' .. ARGV[5]) == 1 then return nil end
if KEYS[4] then redis.call('SET', KEYS[4], ARGV[2], 'EX', ARGV[3]) end
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local at = 5
for _ = 1, jobs do
  local id, hour, camera = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local record = {'state', 'queued', 'camera', camera, 'format', ARGV[at + 3], 'size', ARGV[at + 4]}
  if ARGV[at + 5] ~= '' then
    record[9], record[10] = 'captured', ARGV[at + 5]
  end
  redis.call('HSET', prefix .. 'job:' .. id, unpack(record))
  redis.call('ZADD', KEYS[1], now, id)
  redis.call('HINCRBY', prefix .. 'ledger:' .. hour .. ':' .. camera, 'received', 1)
  redis.call('ZADD', KEYS[2], 'NX', hour, hour .. ':' .. camera)
  at = at + 6
end
for message = at, #ARGV do redis.call('LPUSH', KEYS[3], ARGV[message]) end
return nil
