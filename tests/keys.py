"""An API key for tests that look for it where it must never show."""

from __future__ import annotations

import base64
from typing import Final

VARIABLE: Final = "CUSTOMERIO_CDP_API_KEY"
KEY: Final = "hunter2-of-the-account"
KEY_FORMS: Final = (KEY, "hunter2", base64.b64encode(f"{KEY}:".encode()).decode().rstrip("="))
"""The key, a part of it, and the key as HTTP Basic authentication sends it."""
