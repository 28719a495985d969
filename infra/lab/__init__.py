"""Measurements and trials of a whole stack: `bench` and `soak`."""
