"""What a helper process runs: it reads a task, and writes what becomes of the rows."""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.pipeline.prepared_source import PreparedSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.pipeline.preparation import Prepared
    from cdp_backfill.pipeline.workers import Task
    from cdp_backfill.sources import Chunk


def _packed(chunk: Chunk) -> Chunk:
    """Its rows as bytes, without those around a slice."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, chunk.batch.schema) as writer:
        writer.write_batch(chunk.batch)
    return replace(chunk, batch=sink.getvalue().to_pybytes())


def _made(task: Task) -> Iterator[tuple[Chunk, Prepared]]:
    prepared_source = PreparedSource(
        task.source,
        task.proposal,
        recent=task.recent,
        context_scope=task.context_scope,
        now=task.now,
    )
    with closing(
        prepared_source.prepared_here(task.columns, with_digests=task.with_digests)
    ) as found:
        for chunk, prepared in found:
            yield _packed(chunk), replace(prepared, messages=prepared.messages.told())


def work() -> None:
    """Read a task from standard input, and write pickles to standard output; None ends them."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else prints
    with out:
        try:
            for item in _made(pickle.load(sys.stdin.buffer)):  # noqa: S301  # from our own parent
                pickle.dump(item, out)
                out.flush()
            pickle.dump(None, out)
        except BrokenPipeError:  # nobody wants it any more
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  # Arrow's panics are no Exceptions
            pickle.dump(_sendable(error), out)


def _sendable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    except Exception:  # noqa: BLE001  # whatever an error holds
        return SourceError(f"A process that was reading failed ({type(error).__name__}).")
    return error


if __name__ == "__main__":
    work()
