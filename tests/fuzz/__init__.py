"""Random tables, mappings and files: only errors of this project, and every message as its row."""
