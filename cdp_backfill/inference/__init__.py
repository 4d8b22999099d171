"""Proposes a mapping for a table, from its column names, its cells and vendors' presets."""
