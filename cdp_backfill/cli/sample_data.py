"""Made-up records of a mobile app, with the flaws of real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdp_backfill.cli.options import DEMO_ROWS
from cdp_backfill.model.api_facts import Event
from cdp_backfill.model.mapping import Mapping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GROUP: Final = 50_000
_FIRST: Final = 1_609_459_200_000  # 2021-01-01
_SPAN: Final = 3 * 365 * 86_400_000

MAPPING: Final = Mapping(
    user_id="customer",
    anonymous_id="install_id",
    event="action",
    timestamp="happened_at",
    properties={"version": "app_version", "build": "app_build", "city": "city", "note": "note"},
    context={
        "device": {"model": "phone", "type": "platform"},
        "os": {"version": "os_version"},
        "locale": "locale",
    },
    events={
        "install": Event.INSTALLED.value,
        "open": Event.OPENED.value,
        "background": Event.BACKGROUNDED.value,
        "foreground": Event.FOREGROUNDED.value,
        "update": Event.UPDATED.value,
        "uninstall": Event.UNINSTALLED.value,
        "crash": Event.CRASHED.value,
    },
)
"""The mapping of the records."""

_ACTIONS: Final = ["install", "open", "background", "foreground", "update", "uninstall", "crash"]
_SHARES: Final = [0.06, 0.44, 0.22, 0.16, 0.06, 0.03, 0.03]
_PHONES: Final = ["Pixel 8", "Galaxy S23", "Xperia 5 V", "iPhone 13", "iPhone 15 Pro", "iPhone SE"]
_CITIES: Final = ["Zürich", "São Paulo", "Kraków", "東京", "القاهرة", "Oslo", "Lyon", "Bengaluru"]
_LOCALES: Final = ["de-CH", "pt-BR", "pl-PL", "ja-JP", "ar-EG", "nb-NO", "fr-FR", "en-IN"]
_VERSIONS: Final = ["1.9.4", "2.0.0", "2.1.0", "2.1.3", "3.0.0-β1"]


def batches(rows: int, *, seed: int = 7) -> Iterator[Any]:
    """Make up records, the same ones for the same seed.

    About one in a thousand has no user id, one in five hundred has an unknown action, one in a
    thousand has no usable time, and one in fifty thousand is too large.

    Args:
        rows: Number of records.
        seed: Any whole number.

    Yields:
        Arrow record batches of up to 50,000 rows.
    """
    for start in range(0, rows, _GROUP):
        yield _batch(start, min(_GROUP, rows - start), np.random.default_rng([seed, start]))


def write(path: Path, rows: int = DEMO_ROWS, *, seed: int = 7) -> None:
    """Write records to a parquet file.

    Args:
        path: The file.
        rows: Number of records.
        seed: Any whole number.
    """
    writer = None
    for batch in batches(rows, seed=seed):
        writer = writer or pq.ParquetWriter(path, batch.schema)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()


def _batch(start: int, size: int, rng: np.random.Generator) -> Any:
    def choose(values: list[str], shares: list[float] | None = None) -> Any:
        return pa.array(values).take(pa.array(rng.choice(len(values), size, p=shares)))

    def number_names(prefix: str, numbers: Any) -> Any:
        digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
        return pc.binary_join_element_wise(prefix, digits, "")

    def corrupt(array: Any, one_in: int, value: str | None) -> Any:
        return pc.if_else(pa.array(rng.integers(0, one_in, size) == 0), value, array)

    person = rng.integers(0, 1_000_000, size)
    anonymous = pa.array(rng.integers(0, 1_000, size) == 0)
    customer = pc.if_else(anonymous, None, corrupt(number_names("cust-", person), 20, None))
    moments = _FIRST + rng.integers(0, _SPAN, size)
    times = pc.cast(pa.array(moments).cast(pa.timestamp("ms")), pa.string())
    times = pc.binary_join_element_wise(pc.replace_substring(times, " ", "T"), "Z", "")
    phone = rng.integers(0, len(_PHONES), size)
    place = rng.integers(0, len(_CITIES), size)
    note = np.full(size, None, dtype=object)
    note[rng.integers(0, size)] = "stack frame 0x7f… " * 2_500  # over the limit of a message
    # fmt: off
    return pa.RecordBatch.from_arrays(
        [
            customer,
            pc.if_else(anonymous, None, number_names("inst-", person)),
            corrupt(choose(_ACTIONS, _SHARES), 500, "screen_view"),
            corrupt(times, 1_000, "##########"),
            choose(_VERSIONS),
            pa.array(rng.integers(1_000, 9_999, size)),
            pa.array(["android" if number < 3 else "ios" for number in range(6)])  # noqa: PLR2004
            .take(pa.array(phone)),
            choose(["13", "14", "16.7.1", "17.2"]),
            pa.array(_PHONES).take(pa.array(phone)),
            pa.array(_LOCALES).take(pa.array(place)),
            pa.array(_CITIES).take(pa.array(place)),
            pa.array(note, pa.string()),
            pa.array(np.arange(start, start + size)),
        ],
        [
            "customer", "install_id", "action", "happened_at", "app_version", "app_build",
            "platform", "os_version", "phone", "locale", "city", "note", "session",
        ],
    )
    # fmt: on
