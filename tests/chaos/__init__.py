"""Chains of kills, interrupts, resumes and retries against a server that misbehaves.

What the server truly accepted is the judge.
"""
