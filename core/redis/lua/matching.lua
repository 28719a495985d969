-- Say which jobs have a record, and one with these properties.
-- ARGV: states with a blank after each or '' for any, camera or '' for any, owner or '' for any, then ids of jobs
-- Returns the numbers of those that match, from 0.
local FIRST = 4
local states, camera, owner = ARGV[1], ARGV[2], ARGV[3]
local matching = {}
for at = FIRST, #ARGV do
  local known = redis.call('HMGET', JOB .. ARGV[at], 'state', 'camera', 'owner')
  if known[1] and (states == '' or states:find(known[1] .. ' ', 1, true))
    and (camera == '' or known[2] == camera) and (owner == '' or known[3] == owner) then
    matching[#matching + 1] = at - FIRST
  end
end
return matching
