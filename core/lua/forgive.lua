-- Take back one counted start of each job that is still queued.
-- KEYS: the jobs' records
for _, key in ipairs(KEYS) do
  redis.call('HDEL', key, '') -- See settle.lua: with this first, the next is allowed without memory.
  if redis.call('HGET', key, 'state') == 'queued' then redis.call('HINCRBY', key, 'attempts', -1) end
end
