"""Sinks: readers of the feed that deliver it elsewhere, at least once, each with its own cursor."""
