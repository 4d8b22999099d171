"""The command line: its options, the demo, the rehearsal and sample data."""
