-- Set how many jobs of each row, and so of each camera, were recovered, unless more were before; and that they have
-- been listed by now.
-- KEYS: recovery
-- ARGV: for each row: hour, camera, how many
for at = 1, #ARGV, 3 do
  local hour, camera, number = unpack(ARGV, at, at + 2)
  local row = LEDGER .. hour .. ':' .. camera
  local more = number - (redis.call('HGET', row, 'recovered') or 0)
  if more > 0 then
    redis.call('HINCRBY', row, 'recovered', more)
    redis.call('HINCRBY', TOTALS .. camera, 'recovered', more)
  end
end
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'listed', string.format('%.0f', clock[1] * 1000 + math.ceil(clock[2] / 1000)))
