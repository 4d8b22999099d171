"""The command line: options, demo, rehearsal and sample data."""
