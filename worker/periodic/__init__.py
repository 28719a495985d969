"""Periodic tasks that one worker does for all."""
