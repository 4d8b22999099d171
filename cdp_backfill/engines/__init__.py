"""Sends a table in parts, each from a worker of an engine such as Spark, and adds the parts up.

:func:`~cdp_backfill.engines.partition.send_partition` is the seam: an engine gives it the Arrow
batches of a part and a job, and takes its failures and a small summary back. An adapter for an
engine knows how to run a function on each part, and nothing about sending.
"""
