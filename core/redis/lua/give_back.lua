-- Return messages that a worker holds to the ends of their queues that are served next.
-- KEYS: unacknowledged messages, when each was taken
-- ARGV: for each message, in the order in which they are pushed: delivery tag, queue, the message
for at = 1, #ARGV, 3 do
  -- Not there: acknowledged meanwhile, or returned by another worker because its lease had run out.
  if redis.call('HDEL', KEYS[1], ARGV[at]) == 1 then
    redis.call('ZREM', KEYS[2], ARGV[at])
    redis.call('RPUSH', ARGV[at + 1], ARGV[at + 2])
  end
end
