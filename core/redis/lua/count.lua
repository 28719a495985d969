-- Add a report of one process to the sums of all.
-- KEYS: sums, number of the process' latest report
-- ARGV: number of this report: repeated after a broken connection it counts once; then names and what to add
if redis.call('GET', KEYS[2]) == ARGV[1] then return end
redis.call('SET', KEYS[2], ARGV[1], 'EX', 3600)
for at = 2, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[at], ARGV[at + 1]) end
