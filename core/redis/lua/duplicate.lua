-- Count images that were sent again under an idempotency key.
-- A camera that was forgotten meanwhile stays so.
-- KEYS: ledgers, cameras
-- ARGV: hour, a token of this call: repeated after a broken connection it counts once, the camera of each image
local hour = ARGV[1]
if not redis.call('SET', COUNTED .. ARGV[2], '1', 'NX', 'EX', 60) then return end
for image = 3, #ARGV do
  local camera = ARGV[image]
  if redis.call('ZSCORE', KEYS[2], camera) then
    local row = hour .. ':' .. camera
    redis.call('ZADD', KEYS[1], hour, row)
    redis.call('ZADD', KEYS[2], hour, camera)
    redis.call('HINCRBY', LEDGER .. row, 'duplicates', 1)
    redis.call('HINCRBY', TOTALS .. camera, 'duplicates', 1)
  end
end
