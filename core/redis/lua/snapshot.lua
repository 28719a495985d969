-- Read the cameras' totals, and the number of pending jobs, in one moment.
-- KEYS: cameras, pending of each lane
-- ARGV: the fields to read
-- Returns how many jobs are pending, then each camera with its fields.
local call = redis.call
local answer, at = {0}, 2
for lane = 2, #KEYS do answer[1] = answer[1] + call('ZCARD', KEYS[lane]) end
for _, camera in ipairs(call('ZRANGE', KEYS[1], 0, -1)) do
  local counts = call('HMGET', TOTALS .. camera, unpack(ARGV))
  answer[at] = camera
  for field = 1, #counts do answer[at + field] = tonumber(counts[field]) or 0 end
  at = at + 1 + #counts
end
return answer
