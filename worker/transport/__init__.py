"""The broker as the worker sees it: its channel, connection, leases and messages."""
