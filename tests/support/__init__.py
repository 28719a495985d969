"""Code shared by tests of several tiers."""
