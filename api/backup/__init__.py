"""Backup of a running installation, restoration into an empty one, recovery from storage alone."""
