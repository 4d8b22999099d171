"""Keeps the outcome of every row, and shows it: reports, failures, plots and progress."""
