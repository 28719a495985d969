-- List recovered jobs that have settled, once however often this is called.
-- KEYS: list of jobs
-- ARGV: for each entry: name of the shard, number of its jobs that were recovered, their ids
-- Returns how many of them were listed now.
local listed, at = 0, 1
while at <= #ARGV do
  local name, jobs = ARGV[at], tonumber(ARGV[at + 1])
  local recorded, before = {}, false
  for number = at + 2, at + 1 + jobs do
    local record = redis.call('HMGET', JOB .. ARGV[number], 'state', 'listed')
    if record[1] then recorded[#recorded + 1] = ARGV[number] end
    before = before or record[2]
  end
  if #recorded > 0 and not before then
    redis.call('XADD', KEYS[1], '*', 'shard', name)
    for _, id in ipairs(recorded) do redis.call('HSET', JOB .. id, 'listed', 1) end
    listed = listed + #recorded
  end
  at = at + 2 + jobs
end
return listed
