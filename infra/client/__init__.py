"""The HTTP client of `wastestream classify`: collects images, uploads them, shows results."""
