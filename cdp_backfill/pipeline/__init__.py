"""Runs a plan or a send: reads, checks and encodes rows, and hands requests to delivery."""
