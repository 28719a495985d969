-- Take back one counted start of each job that is still queued.
-- KEYS: the jobs' records
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'state') == 'queued' then redis.call('HINCRBY', key, 'attempts', -1) end
end
