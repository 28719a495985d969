-- Read the counters that may change: each camera's totals, and the rows of the latest hours.
-- KEYS: ledgers, cameras
-- ARGV: the first hour whose rows may still change
-- Returns the key of each, with its names and values in turn.
local counters = {}

local function note(key)
  counters[#counters + 1] = {key, redis.call('HGETALL', key)}
end

for _, camera in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do note(TOTALS .. camera) end
for _, row in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf')) do note(LEDGER .. row) end
return counters
