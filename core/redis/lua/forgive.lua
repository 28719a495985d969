-- Take back one counted start of each job that is still queued.
-- KEYS: the jobs' records
-- ARGV: a token of this call: repeated after a broken connection it must not take back two
for _, key in ipairs(KEYS) do
  redis.call('HDEL', key, '') -- See settle.lua: with this first, the next is allowed without memory.
  if redis.call('HGET', key, 'state') == 'queued' and redis.call('HGET', key, 'start') ~= ARGV[1] then
    redis.call('HSET', key, 'start', ARGV[1])
    redis.call('HINCRBY', key, 'attempts', -1)
  end
end
