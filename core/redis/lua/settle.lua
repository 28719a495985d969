-- Settle a batch: the first terminal state wins, and counters move only when the state does.
-- KEYS: service rate, withdrawn, expiring, pending of each lane
-- ARGV: record seconds, model, '1' if the jobs' messages are still queued (so that the worker that receives
--       one must be told that it is cancelled), the error of an expired job,
--       '' or the only owner whose job may be settled: to others it is unknown,
--       per job: id, hour, state, label, probability, review, error, the id as 16 bytes
-- Returns how many cancelled jobs' messages are still about, then each job's state as it now stands,
-- '' where there is no record.
local FIRST, WIDTH, LANES = 6, 8, 4
local FADE_MS = 30000 -- as in core.redis.eta
local LONGEST_MS = 5000 -- what one call can have taken; beyond it nobody was working
local states, settled, packed, worked = {}, {}, {}, 0
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local moves = {}
-- Of each lane: when its oldest pending job was accepted, and how many were worked off here.
local oldest, of_lane = {}, {}
for lane = LANES, #KEYS do
  oldest[lane], of_lane[lane] = redis.call('ZRANGE', KEYS[lane], 0, 0, 'WITHSCORES')[2], 0
end

local function count(camera, row, field)
  moves[row] = moves[row] or {camera, {}}
  moves[row][2][field] = (moves[row][2][field] or 0) + 1
end

if ARGV[5] ~= '' and redis.call('HGET', JOB .. ARGV[FIRST], 'owner') ~= ARGV[5] then
  return {redis.call('ZCARD', KEYS[2]), ''}
end
for at = FIRST, #ARGV, WIDTH do
  local id, state = ARGV[at], ARGV[at + 2]
  local key = JOB .. id
  -- First of all: a script whose first write frees memory may go on when Redis has none left (maxmemory),
  -- so jobs settle then too.
  local home
  for lane = LANES, #KEYS do
    if redis.call('ZREM', KEYS[lane], id) == 1 then
      home = lane
      break
    end
  end
  local known = redis.call('HMGET', key, 'state', 'camera', 'expires')
  if known[1] == 'queued' then
    local camera, why = known[2], ARGV[at + 6]
    local row = ARGV[at + 1] .. ':' .. camera
    if state == 'classified' or state == 'failed' then
      worked = worked + 1
      if home then of_lane[home] = of_lane[home] + 1 end
    end
    -- It became too old while it was worked on: nobody may take the answer for one that came in time.
    if state == 'classified' and known[3] and now > tonumber(known[3]) then state, why = 'expired', ARGV[4] end
    local record = {'state', state, 'settled', string.format('%.0f', now)}
    count(camera, row, state)
    if state == 'classified' then
      local label, review = ARGV[at + 3], ARGV[at + 5]
      count(camera, row, label)
      if review == '1' then count(camera, row, 'review') end
      for _, value in ipairs({'label', label, 'probability', ARGV[at + 4], 'review', review, 'model', ARGV[2]}) do
        record[#record + 1] = value
      end
    elseif why ~= '' then
      record[#record + 1], record[#record + 2] = 'error', why
    end
    redis.call('HSET', key, unpack(record))
    redis.call('HDEL', key, 'attempts', 'start')
    redis.call('EXPIRE', key, ARGV[1])
    if known[3] then redis.call('ZREM', KEYS[3], id) end
    if state == 'cancelled' and ARGV[3] == '1' then
      -- Cancelled jobs whose messages were lost are forgotten with their records.
      redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 1000 * ARGV[1])
      redis.call('ZADD', KEYS[2], now, id)
      redis.call('EXPIRE', KEYS[2], ARGV[1])
    end
    settled[#settled + 1], packed[#packed + 1] = id, ARGV[at + 7]
    states[#states + 1] = state
  else
    if known[1] == 'cancelled' and ARGV[3] ~= '1' then redis.call('ZREM', KEYS[2], id) end
    states[#states + 1] = known[1] or ''
  end
end
local terminal = {classified = true, failed = true, expired = true, cancelled = true}
for row, move in pairs(moves) do
  local ended = 0
  for field, by in pairs(move[2]) do
    redis.call('HINCRBY', LEDGER .. row, field, by)
    if terminal[field] then
      redis.call('HINCRBY', TOTALS .. move[1], field, by)
      ended = ended + by
    end
  end
  redis.call('HINCRBY', LEDGER .. row, 'pending', -ended)
end

-- Add jobs to the measure of a lane, or of all with '', whose work began when `since` says or later.
local function measure(lane, jobs, began)
  local names = {lane .. 'jobs', lane .. 'ms', lane .. 'since'}
  local rate = redis.call('HMGET', KEYS[1], unpack(names))
  local took = math.max(0, now - math.max(tonumber(rate[3]) or began, began))
  local keep = math.exp(-took / FADE_MS)
  redis.call('HSET', KEYS[1],
    names[1], string.format('%.3f', (tonumber(rate[1]) or 0) * keep + jobs),
    names[2], string.format('%.3f', (tonumber(rate[2]) or 0) * keep + math.min(took, LONGEST_MS)),
    names[3], string.format('%.0f', now))
end

if worked > 0 then
  measure('', worked, tonumber(redis.call('HGET', KEYS[1], 'since')) or now)
end
for lane, jobs in pairs(of_lane) do
  if jobs > 0 then measure(KEYS[lane]:match('[^:]+$') .. ':', jobs, tonumber(oldest[lane])) end
end
if #settled > 0 then
  redis.call('XADD', FEED, '*', '', table.concat(packed))
  redis.call('PUBLISH', SETTLED, table.concat(settled, ' '))
end
table.insert(states, 1, redis.call('ZCARD', KEYS[2]))
return states
