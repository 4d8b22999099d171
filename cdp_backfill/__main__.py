"""``python -m cdp_backfill`` is ``cdp-backfill``."""

from cdp_backfill.cli.app import main

main()
