"""Configuration and hooks of schemathesis, which runs as a program."""
