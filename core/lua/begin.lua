-- Count one more start of a job that was delivered before.
-- KEYS: the job's record
-- Returns the state if it is terminal, '' if there is no record, else the number of starts after the first.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return '' end
if state ~= 'queued' then return state end
return redis.call('HINCRBY', KEYS[1], 'attempts', 1)
