"""Engines for hardware other than CPUs."""
