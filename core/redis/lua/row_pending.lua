-- Add up the pending jobs of rows of the ledger, by camera.
-- KEYS: ledgers
-- ARGV: first hour, last hour, how many rows to leave out, most rows to read
-- Returns how many rows were read, then each camera with pending jobs and their number.
local pending, answer = {}, {}
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', ARGV[3], ARGV[4])
for _, row in ipairs(rows) do
  local count = tonumber(redis.call('HGET', LEDGER .. row, 'pending')) or 0
  if count ~= 0 then
    local camera = row:match(':(.*)')
    pending[camera] = (pending[camera] or 0) + count
  end
end
answer[1] = #rows
for camera, count in pairs(pending) do
  answer[#answer + 1], answer[#answer + 2] = camera, count
end
return answer
