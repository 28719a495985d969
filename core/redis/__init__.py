"""Redis: client, keys, scripts, and a module for each kind of record."""
