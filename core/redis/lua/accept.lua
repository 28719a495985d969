-- Accept uploads, each all or nothing, and enqueue the messages that name their jobs. Uploads of one call stand
-- together: the queue has places for all of them, and their rate limit an image left, or all new ones are rejected.
-- KEYS: pending of the jobs' lane, pending of the other lane, ledgers, cameras, service rate, expiring, queue,
--       then the idempotency key of each upload that has one
-- ARGV: idempotency seconds, most pending jobs for this lane, most cameras, most cameras that one
--       owner brings, installation or '', number of uploads, '1' if they are of one call,
--       per upload: idempotency value or '', rate limit ('' or 'name images-per-second burst'), owner or '',
--           id of the job that its first one repeats or '', number of jobs,
--         per job: id, hour, camera, format, size, captured ms or '', expires ms or '', shard's suffix or '',
--       then the messages. They are pushed if any upload is accepted: of what they name besides, there is no
--       record to settle.
-- Returns words for each upload: 'known' and the value stored with the idempotency key earlier, or 'limited' and
-- the ms until the rate limit has an image left, or 'cameras' and 'all' or 'owner' when there are as many as may be,
-- or 'accepted' or 'full', ms now, jobs of the lane before these, jobs of the other lane, which lanes are paused
-- (1 this one, 2 the other, 3 both, 0 none), the service rate: jobs, ms, since, then those of the lane and of the other,
-- and when accepted within a rate limit the images left of it and the ms until it is whole; or the one word 'lost' if this is another installation's Redis.
local HEAD, WIDTH = 5, 8 -- arguments of an upload before its jobs, and of a job
local COUNTED_SECONDS = 60 -- longer than a call is repeated
local TIME_DIGITS = 10 -- of an id, as in core.ids
local most, uploads = tonumber(ARGV[2]), tonumber(ARGV[6])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local keyed, messages, written, repeated, latest = 0, 0, false, false, ''
-- Of uploads of one call: how many jobs are new, and whether there was room for them.
local one_call, demand, admitted = ARGV[7] == '1', 0, false
local name, neighbour = KEYS[1]:match('[^:]+$'), KEYS[2]:match('[^:]+$')
local measures = {
  'jobs', 'ms', 'since', name .. ':jobs', name .. ':ms', name .. ':since',
  neighbour .. ':jobs', neighbour .. ':ms', neighbour .. ':since',
  'last', name .. ':paused', neighbour .. ':paused',
}

-- Move a counter of an hour's row and of its camera's totals, and see to it that both are listed.
local function count(field, hour, camera, by)
  local row = hour .. ':' .. camera
  if redis.call('HINCRBY', LEDGER .. row, field, by) == by then
    redis.call('ZADD', KEYS[3], hour, row)
    redis.call('ZADD', KEYS[4], hour, camera)
  end
  redis.call('HINCRBY', TOTALS .. camera, field, by)
end

-- Take images from a rate limit; return false and the answer if nothing is left, or true and words for the answer.
-- It may be overdrawn by a call that was admitted.
local function allow(limit, images)
  if limit == '' then return true, '' end
  -- One number says it all: when the allowance will be whole again (the generic cell rate algorithm).
  local name, rate, burst = limit:match('^(%S+) (%S+) (%S+)$')
  local key, per_image = RATE .. name, 1000 / rate
  local whole = math.max(tonumber(redis.call('GET', key) or 0), now)
  local wait = whole - now - (burst - 1) * per_image
  if wait > 0 and not admitted then return false, string.format('limited %.0f', math.ceil(wait)) end
  whole = whole + images * per_image
  redis.call('SET', key, string.format('%.3f', whole), 'PX', string.format('%.0f', math.ceil(whole - now)))
  local left = math.max(0, math.floor(burst - (whole - now) / per_image))
  return true, string.format(' %d %.0f', left, math.ceil(whole - now))
end

-- Return the names of cameras that are not known yet.
local function new_cameras(first, jobs)
  local seen, new = {}, {}
  for at = first, first + (jobs - 1) * WIDTH, WIDTH do
    local name = ARGV[at + 2]
    if not seen[name] then
      seen[name] = true
      if not redis.call('ZSCORE', KEYS[4], name) then new[#new + 1] = name end
    end
  end
  return new
end

-- Rows and totals stay for each camera, so a client that makes up names must not fill Redis, nor use up the names
-- that all may bring. Return which bound these would exceed, if any.
local function too_many(new, owner)
  if #new == 0 then return nil end
  if redis.call('ZCARD', KEYS[4]) + #new > tonumber(ARGV[3]) then return 'all' end
  if owner == '' then return nil end
  local brought = tonumber(redis.call('HGET', KEY_CAMERAS, owner) or 0)
  return brought + #new > tonumber(ARGV[4]) and 'owner' or nil
end

local function note_owner(new, owner)
  if owner == '' or #new == 0 then return end
  for _, camera in ipairs(new) do redis.call('HSET', CAMERA_KEYS, camera, owner) end
  redis.call('HINCRBY', KEY_CAMERAS, owner, #new)
end

local function record(first, jobs, last, owner, retry_of)
  -- Scores grow even if the clock is set back, so places in the queue stay what they were.
  local lowest, score = math.max(now, (last or 0) + 0.001)
  local rows = {}
  for at = first, first + (jobs - 1) * WIDTH, WIDTH do
    local id, hour, camera = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local fields = {'state', 'queued', 'camera', camera, 'format', ARGV[at + 3], 'size', ARGV[at + 4]}
    if ARGV[at + 5] ~= '' then
      fields[#fields + 1], fields[#fields + 2] = 'captured', ARGV[at + 5]
    end
    if ARGV[at + 6] ~= '' then
      fields[#fields + 1], fields[#fields + 2] = 'expires', ARGV[at + 6]
      redis.call('ZADD', KEYS[6], ARGV[at + 6], id)
    end
    local shard = ARGV[at + 7]
    if shard == '' then
      redis.call('XADD', ACCEPTED, '*', 'shard', id)
    else
      fields[#fields + 1], fields[#fields + 2] = 'shard', shard
      -- Once for all its jobs, whose ids its name tells.
      if shard ~= latest then redis.call('XADD', ACCEPTED, '*', 'shard', id:sub(1, TIME_DIGITS) .. shard) end
      latest = shard
    end
    if retry_of ~= '' and at == first then
      fields[#fields + 1], fields[#fields + 2] = 'retry_of', retry_of
    end
    if owner ~= '' then
      fields[#fields + 1], fields[#fields + 2] = 'owner', owner
    end
    redis.call('HSET', JOB .. id, unpack(fields))
    -- Counted from the lowest: added up, the steps would be less than 0.001 each, and two scores the same.
    score = string.format('%.3f', lowest + (at - first) / WIDTH * 0.001)
    redis.call('ZADD', KEYS[1], score, id)
    local row = hour .. ':' .. camera
    rows[row] = rows[row] or {hour, camera, 0}
    rows[row][3] = rows[row][3] + 1
  end
  for name, row in pairs(rows) do
    count('received', row[1], row[2], row[3])
    redis.call('HINCRBY', LEDGER .. name, 'pending', row[3])
  end
  return score
end

local function recorded(first)
  return redis.call('EXISTS', JOB .. ARGV[first]) == 1
end

-- Accept the upload whose jobs begin at this argument, or say why not.
local function accept(value, limit, owner, retry_of, jobs, first)
  local key
  if value ~= '' then
    keyed = keyed + 1
    key = KEYS[7 + keyed]
    local known = redis.call('GET', key)
    -- Its own value is that of this very call, repeated after a broken connection: see below.
    if known and known ~= value then
      if repeated then return 'known ' .. known end
      -- The id made for this call tells it from others: repeated after a broken connection it counts once.
      local new = redis.call('SET', COUNTED .. ARGV[first], '1', 'NX', 'EX', COUNTED_SECONDS)
      if new and known:match('^%S+') == value:match('^%S+') then
        for at = first, first + (jobs - 1) * WIDTH, WIDTH do
          local listed = redis.call('ZSCORE', KEYS[4], ARGV[at + 2]) -- else it was forgotten, and stays so
          if listed then count('duplicates', ARGV[at + 1], ARGV[at + 2], 1) end
        end
      end
      return 'known ' .. known
    end
  end
  local lane, other = redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])
  local rate = redis.call('HMGET', KEYS[5], unpack(measures))
  local function answer(word, ahead)
    local pauses = (rate[11] and 1 or 0) + (rate[12] and 2 or 0)
    local measure = {}
    for at = 1, 9 do measure[at] = rate[at] or 0 end
    return string.format('%s %.0f %d %d %d ', word, now, ahead, other, pauses) .. table.concat(measure, ' ')
  end
  if repeated and recorded(first) then return answer('accepted', redis.call('ZRANK', KEYS[1], ARGV[first]) or 0) end
  -- Messages of jobs that were cancelled, or expired, wait in the queue until a worker meets them.
  local queued = redis.call('LLEN', KEYS[7])
  local places = one_call and demand or jobs
  if repeated or not admitted and (lane + other + places > most or queued + messages > most) then
    return answer('full', math.max(lane, queued))
  end
  local allowed, allowance = allow(limit, jobs)
  if not allowed then return allowance end
  admitted = one_call
  -- Its allowance has been taken: its image was stored before it is rejected here.
  local cameras = new_cameras(first, jobs)
  local bound = too_many(cameras, owner)
  if bound then return 'cameras ' .. bound end

  if key then redis.call('SET', key, value, 'EX', ARGV[1]) end
  note_owner(cameras, owner)
  local last = record(first, jobs, rate[10], owner, retry_of)
  if lane == 0 and (other == 0 or rate[12]) then -- Nobody works on the jobs of a paused lane.
    redis.call('HSET', KEYS[5], 'last', last, 'since', string.format('%.0f', now))
  else
    redis.call('HSET', KEYS[5], 'last', last)
  end
  written = true
  return answer('accepted', lane) .. allowance
end

if ARGV[5] ~= '' and redis.call('GET', INSTALLATION) ~= ARGV[5] then return {'lost'} end
local starts, at = {}, 8
for upload = 1, uploads do
  starts[upload] = at
  at = at + HEAD + tonumber(ARGV[at + HEAD - 1]) * WIDTH
end
messages = #ARGV - at + 1
if one_call then
  local seen, number = {}, 0
  for _, start in ipairs(starts) do
    local key
    if ARGV[start] ~= '' then
      number = number + 1
      key = KEYS[7 + number]
    end
    if not key or not seen[key] and redis.call('EXISTS', key) == 0 then demand = demand + tonumber(ARGV[start + HEAD - 1]) end
    if key then seen[key] = true end
  end
end
-- A client library repeats a call whose answer was lost. If one of its uploads was accepted, the first call ran to
-- its end, and this one must change nothing: neither count nor enqueue twice, nor fail for want of memory and so seem to
-- have accepted nothing. Uploads that it rejected, for whatever reason, are told to come back.
for _, start in ipairs(starts) do repeated = repeated or recorded(start + HEAD) end
local answers = {}
for upload, start in ipairs(starts) do
  local value, limit, owner, retry_of, jobs = unpack(ARGV, start, start + HEAD - 1)
  answers[upload] = accept(value, limit, owner, retry_of, tonumber(jobs), start + HEAD)
end
if written then
  for message = at, #ARGV do redis.call('LPUSH', KEYS[7], ARGV[message]) end
end
return answers
