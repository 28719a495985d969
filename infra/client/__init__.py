"""The HTTP client behind `wastestream classify`: which images, how they are sent, how results are shown."""
