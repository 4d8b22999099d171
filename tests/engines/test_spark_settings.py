"""What the settings of Spark tell, without a session."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import cdp_backfill as cdp

pytest.importorskip("pyspark", reason="the extra spark is not installed")

from cdp_backfill.engines.spark_tables import (  # needs pyspark
    check_key_setting,
    may_repeat,
    slots_of,
)


@pytest.mark.parametrize(
    ("pattern", "master", "is_refused"),
    [
        (None, "yarn", True),
        ("(?i)secret|api[._]?key", "yarn", False),
        ("(", "yarn", True),
        ("(?i)secret|api[._]?key", "spark://host:7077", True),
    ],
)
def test_a_key_in_the_settings_is_refused(
    pattern: str | None, master: str, is_refused: bool
) -> None:
    """A key that the event log or a page of Spark would show in clear; not one that it hides."""
    settings = {
        "spark.master": master,
        "spark.executorEnv.CUSTOMERIO_CDP_API_KEY": "x",
        "spark.redaction.regex": pattern,
    }
    # What a session says of itself later does not count, where its context can be asked.
    context = SimpleNamespace(getConf=lambda: settings)
    session = SimpleNamespace(conf={**settings, "spark.redaction.regex": "."}, _sc=context)
    if pattern is None:
        session = SimpleNamespace(conf=settings)
    if not is_refused:
        return check_key_setting(session)
    instead = "new key, and pass" if "://" in master else re.escape("api[._]?key")
    with pytest.raises(cdp.BadInputError, match=instead):
        check_key_setting(session)
    return None


@pytest.mark.parametrize(
    ("settings", "slots"),
    [
        ({"spark.master": "local"}, 1),
        ({"spark.master": "local[3]"}, 3),
        ({"spark.master": "local[2,4]"}, 2),
        ({"spark.master": "local[*]"}, 7),
        ({"spark.master": "yarn"}, None),
        ({}, None),
        ({"spark.executor.instances": "5"}, None),
        ({"spark.executor.instances": "5", "spark.executor.cores": "4"}, 20),
        (
            {
                "spark.executor.instances": "5",
                "spark.executor.cores": "4",
                "spark.task.cpus": "2",
                "spark.dynamicAllocation.enabled": "true",
                "spark.dynamicAllocation.maxExecutors": "9",
            },
            18,
        ),
        ({"spark.dynamicAllocation.enabled": "true", "spark.executor.cores": "4"}, None),
    ],
)
def test_slots(settings: dict[str, str], slots: int | None) -> None:
    """How many tasks run at a time; None where the settings do not tell, and never too few."""
    context = SimpleNamespace(defaultParallelism=7, getConf=lambda: settings)
    assert slots_of(SimpleNamespace(conf=settings, _sc=context)) == slots


@pytest.mark.parametrize(
    ("settings", "attempts", "expected"),
    [
        ({}, [0, 0], False),
        ({}, [0, 1], True),
        ({}, [None], True),
        ({}, [], False),
        ({"spark.speculation": "true"}, [0], True),
    ],
)
def test_attempts_that_nobody_counts(
    settings: dict[str, str], attempts: list[int | None], expected: bool
) -> None:
    """With speculation, or if a stage ran again, no attempt number tells how often a part ran."""
    infos = [None if each is None else SimpleNamespace(currentAttemptId=each) for each in attempts]
    tracker = SimpleNamespace(getStageInfo=lambda stage: infos[stage])
    context = SimpleNamespace(statusTracker=lambda: tracker, getConf=lambda: settings)
    frame: Any = SimpleNamespace(
        schema=(), sparkSession=SimpleNamespace(conf=settings, _sc=context)
    )
    assert may_repeat(frame, set(range(len(infos)))) is expected


def test_pyspark_is_not_imported_without_need() -> None:
    """A send of pandas does not import any engine."""
    code = (
        "import sys, pandas as pd, cdp_backfill as cdp\n"
        "frame = pd.DataFrame({'uid': ['a'], 'ts': ['2023-05-01']})\n"
        "frame.cdp.plan(user_id='uid', timestamp='ts', event=cdp.lit('Application Opened'))\n"
        "print('pyspark' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
