-- Read the cameras' totals, their sums, and the number of pending jobs, in one moment.
-- KEYS: cameras, pending of each lane
-- ARGV: the fields to read
-- Returns how many jobs are pending, the sum of each field, then each camera with its fields.
local answer, at = {0}, 2 + #ARGV
for field = 1, #ARGV do answer[1 + field] = 0 end
for _, camera in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  answer[at] = camera
  for field, value in ipairs(redis.call('HMGET', TOTALS .. camera, unpack(ARGV))) do
    local count = tonumber(value) or 0
    answer[at + field], answer[1 + field] = count, answer[1 + field] + count
  end
  at = at + 1 + #ARGV
end
for lane = 2, #KEYS do answer[1] = answer[1] + redis.call('ZCARD', KEYS[lane]) end
return answer
