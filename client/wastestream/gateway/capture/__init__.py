"""The process that reads one stream: `python -m wastestream.gateway.capture`.

FFmpeg can hang, crash and grow, so each stream has a process of its own, which the gateway ends and starts
again. It reads what to do from standard input: a line of JSON, then the word `trigger` for each picture to be
taken at once. It ends when its input does, and writes records (`records`) to standard output.
"""
