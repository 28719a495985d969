"""What one worker does for all, from time to time."""
