"""The command line: `wastestream COMMAND`, one file per command."""
