"""From an upload's bytes to queued jobs."""
