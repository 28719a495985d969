"""Sinks: what carries the feed out of the system, each with a cursor of its own, at least once."""
