-- Rename a camera, or forget it: its totals, rows of the ledger, description, report and counts of gateways. It must
-- owe nothing.
-- KEYS: cameras, ledgers, key that brought each camera, cameras that each key brought, descriptions, reports, rows of
--       gateways' counts
-- ARGV: camera, its new name or '' to forget it, '1' to add it to a camera of the new name, seconds for which counts of
--       gateways are kept, every hour in which it may have a row
-- Returns 'unknown', 'exists', or how many of its jobs have not settled (then nothing has changed) and how many images
-- it had sent.
local FIRST = 5
local old, new, merge = ARGV[1], ARGV[2], ARGV[3] == '1'

local function known(camera)
  return redis.call('ZSCORE', KEYS[1], camera) or redis.call('HGET', KEYS[5], camera)
    or redis.call('HGET', KEYS[6], camera)
end

-- Add the counters of one key to those of another.
local function add(from, to)
  local counts = redis.call('HGETALL', from)
  for at = 1, #counts, 2 do redis.call('HINCRBY', to, counts[at], counts[at + 1]) end
end

-- List a name under its new one, as high as both; return whether it was listed.
local function relist(list, from, to)
  local score = redis.call('ZSCORE', list, from)
  if not score then return false end
  redis.call('ZREM', list, from)
  if new ~= '' then redis.call('ZADD', list, 'GT', score, to) end
  return true
end

-- A gateway's counts of the new name are replaced by its next report, so those of the old one stand beside them.
local function add_sampled(from, to)
  local counts = redis.call('HGETALL', from)
  for at = 1, #counts, 2 do redis.call('HSET', to, counts[at] .. ':' .. old, counts[at + 1]) end
  redis.call('EXPIRE', to, ARGV[4])
end

local function move_field(hash)
  local value = redis.call('HGET', hash, old)
  if value and new ~= '' and not redis.call('HGET', hash, new) then redis.call('HSET', hash, new, value) end
  redis.call('HDEL', hash, old)
end

if not known(old) then return {'unknown'} end
local totals = TOTALS .. old
local counts = redis.call('HMGET', totals, 'received', 'classified', 'failed', 'expired', 'cancelled')
local received = tonumber(counts[1]) or 0
local owed = received
for state = 2, #counts do owed = owed - (tonumber(counts[state]) or 0) end
if owed ~= 0 then return {owed, received} end
if new ~= '' and not merge and known(new) then return {'exists'} end
local brought = redis.call('HGET', KEYS[3], old)
if brought then
  redis.call('HDEL', KEYS[3], old)
  if new ~= '' and not redis.call('ZSCORE', KEYS[1], new) then
    redis.call('HSET', KEYS[3], new, brought)
  elseif redis.call('HINCRBY', KEYS[4], brought, -1) <= 0 then
    redis.call('HDEL', KEYS[4], brought)
  end
end
relist(KEYS[1], old, new)
if new ~= '' then add(totals, TOTALS .. new) end
redis.call('DEL', totals)
move_field(KEYS[5])
move_field(KEYS[6])
for at = FIRST, #ARGV do
  local from, to = ARGV[at] .. ':' .. old, ARGV[at] .. ':' .. new
  if relist(KEYS[2], from, to) then
    if new ~= '' then add(LEDGER .. from, LEDGER .. to) end
    redis.call('DEL', LEDGER .. from)
  end
  if relist(KEYS[7], from, to) then
    if new ~= '' then add_sampled(SAMPLED .. from, SAMPLED .. to) end
    redis.call('DEL', SAMPLED .. from)
  end
end
return {0, received}
