-- Count images that were sent again under an idempotency key.
-- A camera that was forgotten meanwhile stays so.
-- KEYS: ledgers, cameras
-- ARGV: hour, camera, how many, a token of this call: repeated after a broken connection it counts once
local hour, camera, images = ARGV[1], ARGV[2], ARGV[3]
if not redis.call('ZSCORE', KEYS[2], camera) then return end
if not redis.call('SET', COUNTED .. ARGV[4], '1', 'NX', 'EX', 60) then return end
local row = hour .. ':' .. camera
redis.call('ZADD', KEYS[1], hour, row)
redis.call('ZADD', KEYS[2], hour, camera)
redis.call('HINCRBY', LEDGER .. row, 'duplicates', images)
redis.call('HINCRBY', TOTALS .. camera, 'duplicates', images)
