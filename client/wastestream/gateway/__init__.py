"""The camera gateway: reads cameras and folders, spools their frames, and sends them to a server.

`wastestream.gateway.capture` runs in a process for each stream; the other modules run in one process that
starts those, keeps their frames on disk until the server has accepted them, and counts every one.
"""
