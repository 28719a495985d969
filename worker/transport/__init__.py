"""The worker's access to the broker: channel, connection, leases and messages."""
