-- Take messages from a queue for a worker, which holds them from then on.
-- KEYS: queue, unacknowledged messages, when each was taken
-- ARGV: most images, now by the worker's clock (seconds), most that the images may cost to decode (ms)
-- Returns the messages, the oldest first: at most half of those that wait, so that others find some too, which
-- name no more images than may be taken, and cost no more.
local most, left, images = tonumber(ARGV[1]), tonumber(ARGV[3]), 0
local taken = {}
for _ = 1, math.min(most, math.ceil(redis.call('LLEN', KEYS[1]) / 2)) do
  local message = redis.call('LINDEX', KEYS[1], -1)
  local is_json, found = pcall(cjson.decode, message)
  local properties = is_json and type(found) == 'table' and found.properties
  local tag = type(properties) == 'table' and properties.delivery_tag
  if type(tag) ~= 'string' then break end -- Not a message; kombu says so when it meets it.
  local headers = type(found.headers) == 'table' and found.headers or {}
  images = images + (tonumber(headers.images) or 1)
  if type(headers.costs_ms) == 'table' then
    for _, cost in ipairs(headers.costs_ms) do left = left - (tonumber(cost) or 0) end
  end
  if images > most or left < 0 then break end
  redis.call('RPOP', KEYS[1])
  redis.call('ZADD', KEYS[3], ARGV[2], tag)
  redis.call('HSET', KEYS[2], tag, '[' .. message .. ',"","' .. KEYS[1] .. '"]') -- as kombu keeps it
  taken[#taken + 1] = message
end
return taken
