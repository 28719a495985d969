-- Count images that were sent again under an idempotency key.
-- KEYS: ledgers, cameras
-- A camera that was forgotten meanwhile stays so.
-- ARGV: prefix, hour, camera, how many, a word of this call's own: repeated after a broken connection it counts once
local prefix, hour, camera = ARGV[1], ARGV[2], ARGV[3]
if not redis.call('ZSCORE', KEYS[2], camera) then return end
if not redis.call('SET', prefix .. 'counted:' .. ARGV[5], '1', 'NX', 'EX', 60) then return end
local row = hour .. ':' .. camera
redis.call('ZADD', KEYS[1], hour, row)
redis.call('ZADD', KEYS[2], hour, camera)
redis.call('HINCRBY', prefix .. 'ledger:' .. row, 'duplicates', ARGV[4])
redis.call('HINCRBY', prefix .. 'totals:' .. camera, 'duplicates', ARGV[4])
