-- Settle a batch: the first terminal state wins, and counters move only when the state does.
-- KEYS: pending of each lane
-- ARGV: prefix, channel, record seconds, model, per job: id, hour, state, label, probability, review, error
-- Returns each job's state as it now stands, '' where there is no record.
local prefix, states, settled = ARGV[1], {}, {}
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for at = 5, #ARGV, 7 do
  local id, state = ARGV[at], ARGV[at + 2]
  local key = prefix .. 'job:' .. id
  local known = redis.call('HMGET', key, 'state', 'camera')
  if known[1] == 'queued' then
    local ledger = prefix .. 'ledger:' .. ARGV[at + 1] .. ':' .. known[2]
    local record = {'state', state, 'settled', string.format('%.0f', now)}
    redis.call('HINCRBY', ledger, state, 1)
    if state == 'classified' then
      local label, review = ARGV[at + 3], ARGV[at + 5]
      redis.call('HINCRBY', ledger, label, 1)
      if review == '1' then redis.call('HINCRBY', ledger, 'review', 1) end
      for _, value in ipairs({'label', label, 'probability', ARGV[at + 4], 'review', review, 'model', ARGV[4]}) do
        record[#record + 1] = value
      end
    elseif ARGV[at + 6] ~= '' then
      record[#record + 1], record[#record + 2] = 'error', ARGV[at + 6]
    end
    redis.call('HSET', key, unpack(record))
    redis.call('HDEL', key, 'attempts')
    redis.call('EXPIRE', key, ARGV[3])
    settled[#settled + 1] = id
    states[#states + 1] = state
  else
    states[#states + 1] = known[1] or ''
  end
  for _, pending in ipairs(KEYS) do redis.call('ZREM', pending, id) end
end
if #settled > 0 then redis.call('PUBLISH', ARGV[2], table.concat(settled, ' ')) end
return states
