-- Count the jobs of an archived hour, once however often this is called.
-- KEYS: recovery, ledgers, cameras
-- ARGV: the archived hour, then for each counter: hour of acceptance, camera, name, how many, '1' if it is one of the
--       camera's totals
-- Returns whether they were counted now.
if redis.call('HGET', KEYS[1], ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], 1)
for at = 2, #ARGV, 5 do
  local hour, camera, field, by, total = unpack(ARGV, at, at + 4)
  local row = hour .. ':' .. camera
  redis.call('HINCRBY', LEDGER .. row, field, by)
  if total == '1' then redis.call('HINCRBY', TOTALS .. camera, field, by) end
  redis.call('ZADD', KEYS[2], hour, row)
  redis.call('ZADD', KEYS[3], 'GT', hour, camera)
end
return 1
