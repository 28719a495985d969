-- Run commands although Redis has no memory left (maxmemory): once a script has written anything at all,
-- Redis lets it finish. Deleting what is not there is a write that is always allowed.
-- KEYS: a key that holds nothing
-- ARGV: the commands, each as the number of its words and the words
-- Returns the commands' answers.
redis.call('DEL', KEYS[1])
local answers, at = {}, 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  answers[#answers + 1] = redis.call(unpack(ARGV, at + 1, at + words))
  at = at + 1 + words
end
return answers
