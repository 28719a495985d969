-- Count one more start of a job that was delivered before.
-- KEYS: the job's record
-- ARGV: a token of this start: a call repeated after a broken connection must not count twice
-- Returns the state if it is terminal, '' if there is no record, else the number of starts after the first.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return '' end
if state ~= 'queued' then return state end
redis.call('HDEL', KEYS[1], '') -- See settle.lua: with this first, the next is allowed without memory.
if redis.call('HGET', KEYS[1], 'start') == ARGV[1] then return tonumber(redis.call('HGET', KEYS[1], 'attempts')) end
redis.call('HSET', KEYS[1], 'start', ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'attempts', 1)
