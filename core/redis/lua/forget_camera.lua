-- Forget a camera at once, with its totals and its rows of the ledger, unless it owes something.
-- KEYS: cameras, ledgers, key that brought each camera, cameras that each key brought
-- ARGV: camera, every hour in which it may have a row
-- Returns how many of its jobs have not settled, and how many images it had sent; nothing if it is unknown.
local camera = ARGV[1]
if not redis.call('ZSCORE', KEYS[1], camera) then return nil end
local totals = TOTALS .. camera
local counts = redis.call('HMGET', totals, 'received', 'classified', 'failed', 'expired', 'cancelled')
local received = tonumber(counts[1]) or 0
local owed = received
for state = 2, #counts do owed = owed - (tonumber(counts[state]) or 0) end
if owed ~= 0 then return {owed, received} end
redis.call('DEL', totals)
redis.call('ZREM', KEYS[1], camera)
for at = 2, #ARGV do
  local row = ARGV[at] .. ':' .. camera
  if redis.call('ZREM', KEYS[2], row) == 1 then redis.call('DEL', LEDGER .. row) end
end
local key = redis.call('HGET', KEYS[3], camera)
if key then
  redis.call('HDEL', KEYS[3], camera)
  if redis.call('HINCRBY', KEYS[4], key, -1) <= 0 then redis.call('HDEL', KEYS[4], key) end
end
return {0, received}
