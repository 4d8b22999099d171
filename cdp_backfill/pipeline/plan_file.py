"""Files of plans: what a saved plan holds, and how it becomes a plan again."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from cdp_backfill.errors import BackfillError, BadInputError, DestinationError, SourceError
from cdp_backfill.inference.proposal import Assumption, Choice, LeftOut, Proposal, Question
from cdp_backfill.model import api_facts
from cdp_backfill.model.destination import Destination, choose_destination
from cdp_backfill.model.environment import package_version
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.model.outcomes import Fix, Problem
from cdp_backfill.pipeline.identities import identify_column
from cdp_backfill.pipeline.job import Job, SendOptions
from cdp_backfill.pipeline.leaving_out import described, reread
from cdp_backfill.pipeline.plan_parts import Column
from cdp_backfill.results.private_files import private
from cdp_backfill.results.progress import Reason
from cdp_backfill.sources import open_source
from cdp_backfill.sources.chunks import titled
from cdp_backfill.sources.fingerprint import SavedFingerprint, current_fingerprint

_FORMAT: Final = "cdp-backfill plan"
_VERSION: Final = 1
_KINDS: Final = {".html": "html", ".htm": "html", ".md": "markdown", ".json": "json"}

SAVED_OPTIONS: Final = ("where", "exclude", "recent", "context_scope", "unreadable", "now")
"""Options that a plan file keeps: they change what becomes of a row."""

CALL_OPTIONS: Final = ("destination", "progress", "journal", "canary", "outcomes", "processes")
"""Options of each call of ``send``; of the destination, the file keeps all but the key and
its place."""

_DESTINATION: Final = tuple(
    item.name for item in fields(Destination) if item.name not in ("api_key", "key_from")
)

_FIGURES: Final = (
    *("source", "rows", "recent", "recent_people", "people", "people_exact", "anonymous"),
    *("anonymous_old", "email_ids", "internal_ids", "long_ids", "long_names", "duplicates"),
    *("events", "days", "unknown_events", "body_bytes", "requests", "fill", "wire_bytes"),
)
"""Figures that have the same name and value in a plan and its file."""


def file_kind(path: str | Path) -> Literal["html", "markdown", "json"]:
    """The kind of file that the ending of a name asks for.

    Raises:
        BadInputError: It is none of a plan.
    """
    kind = _KINDS.get(Path(path).suffix.lower())
    if kind is None:
        raise BadInputError(
            f"A plan can be saved as .html, .md or .json, not as {Path(path).name!r}. "
            "plan.save('plan.html') writes a page, plan.save('plan.json') a file to load again."
        )
    return kind  # type: ignore[return-value]


def write_plan(path: str | Path, text: str) -> None:
    """Write a file that only its owner can read.

    Raises:
        BadInputError: It cannot be written.
    """
    try:
        private(Path(path)).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInputError(
            f"The plan cannot be saved as {str(path)!r}: {error.strerror or error}."
        ) from error


def plan_json(job: Job, figures: dict[str, Any], url: str) -> str:
    """A plan as JSON that :func:`read_plan` reads.

    Args:
        job: What the plan would send.
        figures: What the plan shows, as plain values.
        url: The address that it would be sent to.
    """
    if not job.can_be_loaded:
        raise BadInputError(
            f"The plan of {job.source.name} cannot be loaded again: its table stays where it is. "
            "Save the mapping of the plan, or save the plan as .html or .md."
        )
    options = {name: getattr(job.options, name) for name in SAVED_OPTIONS}
    options |= described(job.options.where, job.options.exclude)
    options["now"] = options["now"] and options["now"].isoformat()
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "written_by": f"cdp-backfill {package_version()}",
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": figures,
        "job": {
            "paths": job.source.paths,
            "identify": _identify(job),
            "options": options,
            "destination": _destination(job, url),
            "table": _table(job),
            "identities": None if job.identities is None else _table(job.identities),
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _table(job: Job) -> dict[str, Any]:
    schema = job.source.schema
    return {
        "columns": [[item.name, str(item.type)] for item in schema],
        "fingerprint": SavedFingerprint.of(job.fingerprint).to_dict() if job.fingerprint else None,
    }


def _identify(job: Job) -> dict[str, Any] | None:
    if job.identify is None:
        return None
    column = identify_column(job.identify, job.source, job.proposal.mapping)
    if column is not None:
        return {"column": column}
    return {"paths": job.identities.source.paths if job.identities else None}


def _destination(job: Job, url: str) -> dict[str, Any]:
    """The destination without its key; the address is that of the plan."""
    destination = choose_destination(job.options.destination)
    if destination.url != url:  # another one was configured since
        destination = Destination(base_url=url)
    return {name: getattr(destination, name) for name in _DESTINATION}


def read_plan(path: str | Path) -> SavedPlan:
    """Read the file of a plan.

    Raises:
        BadInputError: It is none, or of a newer version.
    """
    name = str(path)
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(
            f"The plan {name!r} cannot be read: {error.strerror or error}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInputError(
            f"{name!r} is not a plan that can be loaded. Save one with plan.save('plan.json')."
        ) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise BadInputError(
            f"{name!r} is not a plan that can be loaded. Save one with plan.save('plan.json')."
        )
    if document.get("version") != _VERSION:
        raise BadInputError(
            f"The plan {name!r} has the format {document.get('version')}, and this version of "
            f"cdp-backfill reads {_VERSION}. It was written by {document.get('written_by')}: "
            "install that version, or make the plan again."
        )
    try:
        return _saved_plan(name, document)
    except BackfillError as error:  # such as a mapping that was edited
        raise BadInputError(f"The plan {name!r} cannot be used: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(
            f"The plan {name!r} is damaged ({type(error).__name__}: {error}). Make it again."
        ) from error


def _saved_plan(name: str, document: dict[str, Any]) -> SavedPlan:
    plan, job = document["plan"], document["job"]
    options = {item: job["options"][item] for item in SAVED_OPTIONS}
    excluded = options.pop("exclude")
    options["now"] = options["now"] and datetime.fromisoformat(options["now"])
    first, identities = job["identities"], plan["identities"]
    return SavedPlan(
        name=name,
        figures=_figures(plan),
        identities=None if identities is None else _figures(identities),
        paths=job["paths"],
        identify=job["identify"],
        options=SendOptions(**options),
        excluded=excluded,
        destination=Destination(**{item: job["destination"][item] for item in _DESTINATION}),
        table=_SavedTable.of(plan["source"], job["table"]),
        identities_table=None
        if first is None or identities is None
        else _SavedTable.of(identities["source"], first),
    )


def _figures(plan: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a plan, from what its file shows."""
    expected = plan["expected_seconds"]
    return {name: plan[name] for name in _FIGURES} | {
        "proposal": Proposal(
            Mapping.from_dict(plan["mapping"]),
            tuple(Choice(**each) for each in plan["choices"]),
            tuple(Question(**_with_tuples(each)) for each in plan["questions"]),
            plan["preset"],
            tuple(plan["facts"]),
            tuple(Assumption(**each) for each in plan["assumptions"]),
            tuple(LeftOut(**each) for each in plan["left_out"]),
        ),
        "to_send": plan["counts"]["to_send"],
        "invalid": plan["counts"]["invalid"],
        "held": plan["counts"]["held"],
        "skipped": plan["counts"]["skipped"],
        "problems": {
            Problem(each["code"], each["column"], each["reason"]): each["rows"]
            for each in plan["problems"]
        },
        "reasons": tuple(Reason(**each) for each in plan["reasons"]),
        "skipped_reasons": tuple(Reason(**each) for each in plan["skipped_reasons"]),
        "fixes": {Fix(each["code"], each["column"]): each["cells"] for each in plan["fixes"]},
        "columns": tuple(Column(**_with_tuples(each)) for each in plan["columns"]),
        "first": plan["first"] and datetime.fromisoformat(plan["first"]),
        "last": plan["last"] and datetime.fromisoformat(plan["last"]),
        "mean": plan["mean_message_bytes"],
        "largest": plan["largest_message_bytes"],
        "seconds": plan["seconds_at_rate_limit"],
        "expected_seconds": expected and tuple(expected),
        "samples": tuple(plan["samples"]),
        "assumptions": tuple(Assumption(**each) for each in plan["assumptions"]),
        "notes": tuple(plan["notes"]),
    }


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }


@dataclass(frozen=True, slots=True)
class _SavedTable:
    """What a plan file keeps about a table, to know it again.

    Attributes:
        name: The table, in words.
        columns: Names and types.
        fingerprint: Its fingerprint; None if the plan has open questions and was not counted.
    """

    name: str
    columns: list[list[str]]
    fingerprint: SavedFingerprint | None

    @classmethod
    def of(cls, name: str, values: dict[str, Any]) -> _SavedTable:
        found = values["fingerprint"]
        fingerprint = None if found is None else SavedFingerprint.from_dict(found)
        return cls(name, values["columns"], fingerprint)

    def unchanged(self, job: Job) -> Job:
        """The job with the present fingerprint of its table.

        Raises:
            SourceError: The table has changed.
        """
        changes = self._changed_columns(job)
        now = None
        if not changes and self.fingerprint is not None:
            now = current_fingerprint(job.prepare().source)
            changes = self.fingerprint.changes(now)
        if changes:
            title = self.name if job.source.paths else titled(self.name)
            raise SourceError(
                f"{title} has changed since the plan was made: {'; '.join(changes)}. "
                "Make the plan again."
            )
        return replace(job, fingerprint=now)

    def _changed_columns(self, job: Job) -> list[str]:
        before = {name: kind for name, kind in self.columns}  # noqa: C416  # lists of two
        now = {item.name: str(item.type) for item in job.source.schema}
        gone = [f"column {name!r} is gone" for name in before if name not in now]
        new = [f"column {name!r} is new" for name in now if name not in before]
        changed = [
            f"column {name!r} was {before[name]} and is {kind}"
            for name, kind in now.items()
            if before.get(name, kind) != kind
        ]
        return gone + new + changed


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan as its file holds it.

    Attributes:
        name: The file.
        figures: The attributes of the plan but for its address and job.
        identities: The same for the plan of its identities, or None.
        paths: Paths and globs of the table, or None if it was in memory.
        identify: The column or the paths of the identities, or None without identities.
        options: What changes the outcomes of rows, without the excluded ids.
        excluded: What is known of the excluded ids, or None if there are none.
        destination: Where to send, without a key.
        table: What is known of the table.
        identities_table: What is known of the table of identities, or None.
    """

    name: str
    figures: dict[str, Any]
    identities: dict[str, Any] | None
    paths: list[str] | None
    identify: dict[str, Any] | None
    options: SendOptions
    excluded: dict[str, Any] | None
    destination: Destination
    table: _SavedTable
    identities_table: _SavedTable | None

    def job(
        self, source: Any, identify: Any, destination: Destination | None, exclude: Any = None
    ) -> Job:
        """Open the table, and make the job of the plan again.

        Args:
            source: The table, or None for the files that the plan names.
            identify: The table of identities, or None for what the plan names.
            destination: Where to send, or None for the address of the plan.
            exclude: The excluded ids, or None for what the plan names.

        Raises:
            BadInputError: A table is missing, or has changed.
        """
        if source is None:
            if self.paths is None:
                raise SourceError(
                    f"The plan {self.name!r} is of an in-memory table. Pass the table: "
                    "Plan.load(path, df)."
                )
            source = self.paths
        if identify is None and self.identify is not None:
            identify = self.identify.get("column") or self.identify.get("paths")
            if identify is None:
                raise SourceError(
                    f"The plan {self.name!r} has identities of an in-memory table. Pass that table "
                    "as identify=, too."
                )
        if destination is None:
            self._check_address()
        table = open_source(source, unreadable=self.options.unreadable)
        if not table.replayable:
            raise BadInputError(
                f"{table.title} can only be read once, and a loaded plan reads it to compare it. "
                f"Pass a table that can be read again: {table.instead}."
            )
        options = replace(
            self.options,
            destination=destination or self.destination,
            exclude=reread(self.excluded, exclude, self.figures["proposal"].mapping, self.name),
        )
        job = self.table.unchanged(
            Job(
                source=table,
                proposal=self.figures["proposal"],
                options=options,
                identify=identify,
                planned_seconds=self.figures["expected_seconds"],
            )
        )
        if self.identities_table is None:
            return job
        job = job.with_identities()
        if job.identities is not None:
            job = replace(job, identities=self.identities_table.unchanged(job.identities))
        return job

    def _check_address(self) -> None:
        """Let no file send a key to an address that nobody in this session has named."""
        known = {*api_facts.REGIONS.values(), choose_destination(None).url}
        if not (self.destination.is_local or self.destination.url in known):
            raise DestinationError(
                f"The plan {self.name!r} was made for {self.destination.url}. To send to that "
                "address, name it: Plan.load(path, destination=Destination(base_url='...'))."
            )
