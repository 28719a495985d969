-- Forget rows of the ledger, or totals of cameras, that are older than an hour given and owe nothing.
-- KEYS: ledgers; or cameras, key that brought each camera, cameras that each key brought
-- ARGV: what comes before a name to make its key, first hour that is kept, how many names to leave out that were
--       looked at before and kept, most names to look at
-- Returns how many were looked at and how many of them were forgotten.
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[2], 'LIMIT', ARGV[3], ARGV[4])
local gone = 0
for _, name in ipairs(names) do
  local key = ARGV[1] .. name
  local counts = redis.call('HMGET', key, 'received', 'classified', 'failed', 'expired', 'cancelled')
  local owed = tonumber(counts[1]) or 0
  for state = 2, #counts do owed = owed - (tonumber(counts[state]) or 0) end
  if owed == 0 then
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], name)
    local brought_by = KEYS[2] and redis.call('HGET', KEYS[2], name)
    if brought_by then
      redis.call('HDEL', KEYS[2], name)
      if redis.call('HINCRBY', KEYS[3], brought_by, -1) <= 0 then redis.call('HDEL', KEYS[3], brought_by) end
    end
    gone = gone + 1
  end
end
return {#names, gone}
