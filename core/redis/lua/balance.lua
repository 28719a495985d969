-- Add up what the cameras' totals say, and count the jobs that are pending, in one moment.
-- KEYS: cameras, pending of each lane
-- ARGV: the fields to add up
-- Returns the sum of each field, then how many jobs are pending.
local sums, pending = {}, 0
for field = 1, #ARGV do sums[field] = 0 end
for _, camera in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local counts = redis.call('HMGET', TOTALS .. camera, unpack(ARGV))
  for field, value in ipairs(counts) do sums[field] = sums[field] + (tonumber(value) or 0) end
end
for lane = 2, #KEYS do pending = pending + redis.call('ZCARD', KEYS[lane]) end
sums[#sums + 1] = pending
return sums
