-- Read jobs' records. KEYS: the jobs'. ARGV: names of fields. Returns the values of each, nil where it has none.
local records = {}
for at, key in ipairs(KEYS) do records[at] = redis.call('HMGET', key, unpack(ARGV)) end
return records
