"""Tests of the engines: the seam, and adapters over real engines."""
