"""The entry point of a worker process: reads a task, writes prepared chunks."""

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

    from cdp_backfill.pipeline.preparation import PreparedChunk
    from cdp_backfill.pipeline.workers import Task
    from cdp_backfill.sources import Chunk


def _serialise(chunk: Chunk) -> Chunk:
    """The chunk with its rows as bytes, without the rows around a slice."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, chunk.batch.schema) as writer:
        writer.write_batch(chunk.batch)
    return replace(chunk, batch=sink.getvalue().to_pybytes())


def _run(task: Task) -> Iterator[tuple[Chunk, PreparedChunk]]:
    source = PreparedSource(
        task.source,
        task.proposal,
        recent=task.recent,
        context_scope=task.context_scope,
        now=task.now,
        where=task.where,
        excluded=task.excluded,
        ambiguous_ids=task.ambiguous_ids,
    )
    with closing(source.all_chunks(task.columns, with_digests=task.with_digests)) as chunks:
        for chunk, prepared in chunks:
            yield _serialise(chunk), replace(prepared, messages=prepared.messages.without_cells())


def main() -> None:
    """Read a task from standard input, and write pickles to standard output; None ends them."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for whatever else prints
    with out:
        try:
            for item in _run(pickle.load(sys.stdin.buffer)):  # noqa: S301  # from our own parent
                pickle.dump(item, out)
                out.flush()
            pickle.dump(None, out)
        except BrokenPipeError:  # the parent process has stopped reading
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  # Arrow's panics are no Exceptions
            pickle.dump(_picklable(error), out)


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    except Exception:  # noqa: BLE001  # whatever an error holds
        return SourceError(f"A worker process failed while reading ({type(error).__name__}).")
    return error
