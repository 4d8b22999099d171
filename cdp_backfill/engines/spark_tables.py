"""Tables of Spark: which columns can go, and how many parts run at a time."""

from __future__ import annotations

import contextlib
import io
import re
from typing import TYPE_CHECKING, Any, Final

from pyspark.sql import functions as sf
from pyspark.sql.types import (
    BinaryType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
)

from cdp_backfill.errors import BadInputError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

SUMMARY: Final = "cdp_summary"
STAGE: Final = "cdp_stage"

_KINDS: Final = {"cdp_status": ShortType(), "cdp_attempts": IntegerType(), "cdp_row": LongType()}
_REFUSED: Final = {
    "variant": "as text with to_json(CAST({0} AS STRING)), or take fields out of it with "
    "variant_get({0}, '$.name', 'string')",
    "interval": "as a number, such as seconds with extract(SECOND FROM {0})",
    "geometry": "as text with ST_AsText({0})",
    "geography": "as text with ST_AsText({0})",
    "udt": "as the columns that it is made of",
}
"""Types without a counterpart in JSON, by a word of their names, and what to select instead."""

_KEY_SETTING: Final = "spark.executorEnv.CUSTOMERIO_CDP_API_KEY"
_REDACTED: Final = "(?i)secret|password|token|access[.]?key"  # the default of Spark
_LOCAL: Final = re.compile(r"local(?:\[(\d+|\*)(?:,\s*\d+)?\])?")


def check_types(schema: Any) -> None:
    """Refuse columns that have no form as JSON.

    Args:
        schema: Schema of Spark.

    Raises:
        SourceError: There is such a column; the text says what to select instead.
    """
    for field in schema:
        for name in _type_names(field.dataType):
            word = next((word for word in _REFUSED if word in name), None)
            if word is not None:
                instead = _REFUSED[word].format(f"`{field.name}`")
                raise SourceError(
                    f"Column {field.name!r} of the Spark DataFrame is or contains {name}, which "
                    f"has no counterpart in JSON. Select it {instead}; or drop it."
                )


def _type_names(kind: Any) -> Iterator[str]:
    """The names of a type and of all types within it."""
    yield kind.typeName() if kind.typeName() == "udt" else kind.simpleString().partition("<")[0]
    for field in getattr(kind, "fields", ()):
        yield from _type_names(field.dataType)
    for name in ("elementType", "keyType", "valueType"):
        if hasattr(kind, name):
            yield from _type_names(getattr(kind, name))


def setting(session: Any, name: str) -> str | None:
    """A setting of Spark as it is in force; None if there is none.

    A session also takes settings that only count when its context starts. So the context has the
    word where there is one, which is not so under Connect.
    """
    context = getattr(session, "_sc", None)
    conf = session.conf if context is None else context.getConf()
    value: str | None = conf.get(name, None)
    return value


def check_key_setting(session: Any) -> None:
    """Refuse a key in the settings of Spark that its event log and pages would show.

    A standalone cluster shows the environment of its executors on the pages of its workers,
    whatever is to be redacted.

    Raises:
        BadInputError: There is one.
    """
    places = (setting(session, _KEY_SETTING), session.conf.get(_KEY_SETTING, None))
    if not any(each is not None for each in places):
        return
    is_standalone = (setting(session, "spark.master") or "").startswith("spark://")
    pattern = setting(session, "spark.redaction.regex") or _REDACTED
    with contextlib.suppress(re.error):
        if re.search(pattern, _KEY_SETTING) and not is_standalone:
            return
    if is_standalone:
        raise BadInputError(
            f"Nothing was sent. The setting {_KEY_SETTING} shows the API key on the pages of the "
            "workers of a standalone cluster. Remove the setting, make a new key, and pass "
            "Destination(key_from=...) or set the variable on the machines of the workers."
        )
    raise BadInputError(
        f"Nothing was sent. The setting {_KEY_SETTING} shows the API key in the event log and on "
        "the pages of Spark. Start the session with spark.redaction.regex set to "
        f"'{_REDACTED}|api[._]?key', and make a new key; or pass Destination(key_from=...)."
    )


def is_local(session: Any) -> bool:
    """Whether the tasks run in the process of the driver, on one machine."""
    return _LOCAL.fullmatch(session.conf.get("spark.master", None) or "") is not None


def slots_of(session: Any) -> int | None:
    """Tasks that run at a time, at most; None if the settings do not tell."""
    local = _LOCAL.fullmatch(setting(session, "spark.master") or "")
    if local is not None:
        if local[1] == "*":
            context = getattr(session, "_sc", None)
            return None if context is None else int(context.defaultParallelism)
        return int(local[1] or 1)
    instances = setting(session, "spark.executor.instances")
    if setting(session, "spark.dynamicAllocation.enabled") == "true":
        instances = setting(session, "spark.dynamicAllocation.maxExecutors")
    cores = setting(session, "spark.executor.cores")
    if instances is None or cores is None:
        return None
    each = int(cores) // int(setting(session, "spark.task.cpus") or 1)
    return max(1, int(instances) * each)


def result_schema(frame: Any, names: list[str], failed: list[str]) -> StructType:
    """The columns of what parts give: failures under plain names, and a summary with its stage.

    Args:
        frame: The frame of Spark.
        names: Its columns that failures have.
        failed: The columns that failures have besides.
    """
    kinds = {field.name: field.dataType for field in frame.schema}
    given = [StructField(f"c{number}", kinds[name]) for number, name in enumerate(names)]
    made = [StructField(name, _KINDS.get(name, StringType())) for name in failed]
    own = [StructField(SUMMARY, BinaryType()), StructField(STAGE, IntegerType())]
    return StructType([*given, *made, *own])


def may_repeat(frame: Any, stages: set[int]) -> bool:
    """Whether tasks may have run for a frame that no attempt number counts.

    Args:
        frame: The frame of Spark.
        stages: The stages that ended.
    """
    session = frame.sparkSession
    context = getattr(session, "_sc", None)
    if setting(session, "spark.speculation") == "true":
        return True
    if context is None:
        # In local mode, no executor can be lost with rows that were shuffled.
        return _has_exchange(frame) and not is_local(session)
    infos = [context.statusTracker().getStageInfo(stage) for stage in stages]
    return any(info is None or info.currentAttemptId > 0 for info in infos)


def _has_exchange(frame: Any) -> bool:
    """Whether Spark shuffles rows for a frame, so that it may run a whole stage again."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        frame.explain()
    return "Exchange" in text.getvalue()


def numbered(frame: Any, columns: list[str]) -> Any:
    """Columns under plain names, ``c`` and their numbers: Spark reads a dot in a name as a path."""
    plain = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))
    at = {name: f"c{number}" for number, name in enumerate(frame.columns)}
    return plain.select(*(at[name] for name in columns))


def summaries_in(result: Any) -> list[tuple[int, bytes]]:
    """Stage and summary of each part, from what is kept of it."""
    rows = result.where(sf.col(SUMMARY).isNotNull()).select(STAGE, SUMMARY).collect()
    return [(row[0], bytes(row[1])) for row in rows]
