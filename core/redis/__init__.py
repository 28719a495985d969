"""Redis: its client, its keys, its scripts, and a module for each noun that is kept there."""
