"""The journal in a folder: what it remembers through crashes, layouts and engines."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pa_fs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.engines import claims, digest_files, digest_index
from cdp_backfill.engines.attempt_files import RUNS, attempts_in, part_folder
from cdp_backfill.engines.attempt_journal import KNOWN_BEFORE
from cdp_backfill.engines.claims import CLAIM, Claim
from cdp_backfill.engines.folder_journal import FolderJournal, runs_in
from cdp_backfill.engines.store import Store
from cdp_backfill.pipeline.known_digests import KnownDigests
from cdp_backfill.pipeline.run_journal import State
from tests.engines.test_partition import run_part, table_of
from tests.rows import OPENED, opens
from tests.waiting import until

if TYPE_CHECKING:
    from cdp_backfill.engines.attempt_journal import AttemptJournal
    from cdp_backfill.local_sandbox import Sandbox

URL = "http://127.0.0.1:9/v1"
ROWS = 12

RECORDS = st.dictionaries(
    st.sampled_from(digest_files.KINDS), st.lists(st.integers(0, 5), min_size=1), max_size=4
)


def digests_of(rows: list[int]) -> Any:
    """A digest for each number."""
    result = np.zeros((len(rows), 16), dtype=np.uint8)
    result[:, 0] = result[:, 9] = rows
    return result


def opened(folder: Path, **options: Any) -> FolderJournal:
    """A journal for opens."""
    return FolderJournal(folder, **{"mapping": OPENED, "url": URL, **options})


@given(st.lists(RECORDS, max_size=4))
def test_files_of_digests(files: list[dict[digest_files.Kind, list[int]]]) -> None:
    """Files come back as they were written, and add up as if each digest was counted by hand."""
    read = []
    for records in files:
        written = {kind: digests_of(rows)[:, :12] for kind, rows in records.items()}
        read.append(digest_files.from_bytes(digest_files.to_bytes(written)))
        assert {kind: rows.tolist() for kind, rows in read[-1].items()} == {
            kind: rows.tolist() for kind, rows in written.items()
        }
    known = KnownDigests(digest_files.entries(digest_files.together(read)))
    on_their_way = {"begun": 1, "again": 1, "delivered": -1, "withdrawn": -1}
    for row in range(6):
        times: Counter[str] = Counter()
        for records in files:
            times.update({kind: rows.count(row) for kind, rows in records.items()})
        doubts = max(0, sum(number * times[kind] for kind, number in on_their_way.items()))
        doubts += times["sent"] + 2 * times["sent_again"]
        is_delivered = any(
            row in records.get(kind, [])
            for records in files
            for kind in ("delivered", "delivered_again")
        )
        assert known.is_delivered(digests_of([row])).tolist() == [is_delivered]
        assert known.doubts(digests_of([row])).tolist() == [min(2, doubts)]


@given(st.binary(max_size=200), st.integers(0, 300))
def test_a_damaged_file_of_digests(tail: bytes, cut: int) -> None:
    """Bytes that are cut short or something else are refused, never taken for digests."""
    good = digest_files.to_bytes({"begun": digests_of([1, 2, 3])})
    for bad in (tail, good[: min(cut, len(good) - 1)], good + tail + b"x"):
        with pytest.raises(digest_files.NotDigestsError):
            digest_files.from_bytes(bad)


class Server:
    """Counts what it took, and runs attempts against it.

    The truth, which a journal cannot see, is how often each row was taken.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp()) / "journal"
        self.taken = dict.fromkeys(range(ROWS), 0)

    def request(self, attempt: AttemptJournal, rows: list[int], fate: str) -> None:
        """One request of some rows, whose digests were asked about before."""
        number = attempt.add([digests_of(rows)], State.SENT)
        if fate in ("lost", "lost_twice", "delivered", "late"):
            for row in rows:
                self.taken[row] += 1
        if fate in ("lost_twice", "late"):
            attempt.change(number, State.SENT_AGAIN)
            for row in rows:
                self.taken[row] += 1
        if fate == "split" and len(rows) > 1:  # refused as a whole; its first row goes alone
            attempt.split(number, in_doubt=False)
            self.request(attempt, rows[:1], "delivered")
        elif fate in ("refused", "split"):
            attempt.change(number, None)
        elif fate == "delivered":
            attempt.change(number, State.DELIVERED)
        elif fate == "late":
            attempt.change(number, State.DELIVERED_AGAIN)

    def attempt(self, journal: FolderJournal, part: str, rows: list[int], fates: list[str]) -> bool:
        """An attempt of a part; False if it was killed."""
        attempt = journal.shared.attempt(part)
        known = attempt.is_delivered(digests_of(rows))
        attempt.doubts(digests_of(rows))
        left = [row for row, is_known in zip(rows, known, strict=True) if not is_known]
        for start, fate in zip(range(0, len(left), 2), fates, strict=False):
            if fate == "killed":
                self.kill()
                attempt.finish()
                return False
            self.request(attempt, left[start : start + 2], fate)
        attempt.close({"unsent": 0}, {})
        attempt.finish(b"")
        return True

    def kill(self) -> None:
        """Go on with what is on the disk now, whatever else the threads of the attempt write."""
        after = Path(tempfile.mkdtemp()) / "journal"
        shutil.copytree(self.folder, after, ignore=shutil.ignore_patterns(CLAIM, "*.unfinished"))
        self.folder = after


FATES = st.lists(
    st.sampled_from(
        ["delivered", "delivered", "lost", "lost_twice", "late", "refused", "split", "killed"]
    ),
    min_size=ROWS // 2,
    max_size=ROWS // 2,
)
RUNS_OF_PARTS = st.lists(
    st.tuples(st.permutations(range(ROWS)), st.integers(1, 3), st.lists(FATES, min_size=3)),
    min_size=1,
    max_size=3,
)


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("in_memory", [0, 10**6])
@given(runs=RUNS_OF_PARTS)
def test_nothing_is_forgotten(
    in_memory: int,
    monkeypatch: pytest.MonkeyPatch,
    runs: list[tuple[list[int], int, list[list[str]]]],
) -> None:
    """Whatever order, layout and crashes: what may have arrived twice is at least what did.

    What counts as delivered did arrive, and a run that ends well leaves nothing to send; with what
    is known before in memory, and in an index on the disk.
    """
    monkeypatch.setattr(digest_index, "IN_MEMORY", in_memory)
    server = Server()
    for order, parts, fates in [*runs, (list(range(ROWS)), 2, [["delivered"] * ROWS] * 3)]:
        with opened(server.folder) as journal:
            for part in range(parts):
                for number in range(2):  # the engine tries a part that was lost once more
                    again = fates[part] if not number else ["delivered"] * ROWS
                    if server.attempt(journal, str(part), order[part::parts], again):
                        break
                    journal._shared = replace(journal.shared, store=Store.at(server.folder))
    everything = digests_of(list(range(ROWS)))
    with opened(server.folder) as journal, journal.shared.attempt("0") as attempt:
        delivered = attempt.is_delivered(everything)
        known = delivered.astype(int) + attempt.doubts(everything)
        assert attempt.delivered_before == ROWS
    assert delivered.all()
    taken = np.array(list(server.taken.values()))
    assert (taken >= 1).all()
    assert (known >= np.minimum(taken, 2)).all()
    assert cdp.report(server.folder).maybe_twice >= np.count_nonzero(taken >= 2)


SENDER = """
import sys
import cdp_backfill as cdp
from cdp_backfill.engines.folder_journal import FolderJournal
from tests.engines.test_partition import run_part, table_of
from tests.rows import OPENED

url, key, folder, wait = sys.argv[1:]
destination = cdp.Destination(api_key=key, base_url=url, max_messages=50, workers=4)
job = cdp.PartitionJob(mapping=OPENED, destination=destination)
journal = FolderJournal(folder, mapping=OPENED, url=destination.url)
journal.begin()
print("begun", flush=True)
if wait == "attempt":
    journal.shared.attempt("0")
    print("claimed", flush=True)
    sys.stdin.read()
table = table_of(4_000)
run_part(table.to_batches(), job, journal=journal.shared)
"""


def start(box: Sandbox, folder: Path, wait: str = "") -> subprocess.Popen[str]:
    """A process that sends 3,600 messages as one part."""
    return subprocess.Popen(
        [sys.executable, "-c", SENDER, box.url, box.api_key, str(folder), wait],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process, and bury it."""
    process.kill()
    process.communicate()


def test_a_killed_process(tmp_path: Path) -> None:
    """The part of a process that was killed is finished in another layout, and all is counted."""
    folder, held = tmp_path / "journal", 1_000
    with cdp.sandbox() as box:
        process = start(box, folder)
        until(lambda: len(box.events()) >= held)
        kill(process)
        before = cdp.report(folder)
        assert before.counts["delivered"] + before.counts["unknown"] >= held
        assert "did not end" in " ".join(before.notes)
        job = cdp.PartitionJob(mapping=OPENED, destination=box.destination)
        table, summaries = table_of(4_000), []
        table = table.take(pa.array(range(3_999, -1, -1)))
        with opened(folder, url=box.url) as journal:
            for part in range(3):
                rows = table.slice(part * 1_400, 1_400).to_batches()
                summaries.append(run_part(rows, job, str(part), journal=journal.shared)[1])
            journal.end({})
        events = box.events()
        received = events["messageId"].value_counts()
        twice = sum(each.stats.maybe_twice for each in summaries)
        assert sum(each.counts["delivered"] for each in summaries) == 3_600 == len(received)
        assert np.count_nonzero(received > 1) <= twice <= 3_600
        assert cdp.report(folder).maybe_twice == twice
        assert cdp.report(folder).counts["delivered"] == 3_600
        with opened(folder, url=box.url) as journal:
            assert run_part(table.to_batches(), job, journal=journal.shared)[1].stats.requests == 0


def test_one_run_at_a_time(box: Sandbox, tmp_path: Path) -> None:
    """A run beside a live one is refused, and one beside a dead one is not."""
    folder = tmp_path / "journal"
    process = start(box, folder, "attempt")
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(cdp.JournalError, match="in use by another run"):
        opened(folder, url=box.url).begin()
    process.stdout.readline()
    (folder / RUNS / runs_folder(folder) / CLAIM).unlink()  # the driver ends, a worker goes on
    with pytest.raises(cdp.JournalError, match="in use by another run"):
        opened(folder, url=box.url).begin()
    kill(process)
    with opened(folder, url=box.url):
        pass


def runs_folder(folder: Path) -> str:
    """The only run."""
    (run,) = runs_in(Store.at(folder))
    return run


def test_one_of_many_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that claim a place at the same moment, one gets it; the others may wait for it."""
    monkeypatch.setattr(claims, "_MAX_POLL_SECONDS", 0.1)
    store, inside, most, refused = Store.at(tmp_path), [0], [0], []
    barrier = threading.Barrier(6)

    def claim(number: int, *, wait: bool) -> None:
        mine = Claim(store, f"place/{number}", "place")
        barrier.wait()
        if wait:
            mine.take()
        elif mine.try_to_take() is not None:
            refused.append(number)
            return
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        if wait:
            inside[0] -= 1
            mine.release()

    for wait in (True, False):
        threads = [
            threading.Thread(target=claim, args=(n,), kwargs={"wait": wait}) for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == [1]
    assert len(refused) == 5


def test_old_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life of another machine counts until it is too old, by the clock of the folder."""
    monkeypatch.setattr(claims, "is_gone", lambda _: False)
    folder = tmp_path / "journal"
    with opened(folder):
        pass
    sign = folder / RUNS / "0" / CLAIM
    sign.parent.mkdir()
    sign.write_text(json.dumps({"state": "running", "time": 0.0}))
    with pytest.raises(cdp.JournalError, match="0 seconds ago"):
        opened(folder).begin()
    old = sign.stat().st_mtime - claims.STALE_SECONDS - 1
    os.utime(sign, (old, old))
    with opened(folder):
        pass


def test_a_silent_claim_sends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever could not give a sign of life stops, before others take them for dead."""
    with opened(tmp_path / "journal") as journal, journal.shared.attempt("0") as attempt:
        attempt.is_delivered(digests_of([1]))
        monkeypatch.setattr(attempt._claim, "_beat", 0.0)
        with pytest.raises(OSError, match="no sign of life"):
            attempt.add([digests_of([1])], State.SENT)


def test_another_attempt_waits(tmp_path: Path) -> None:
    """An attempt waits for a live one of the same part, and then knows all that it did."""
    with opened(tmp_path / "journal") as journal:
        first = journal.shared.attempt("a/../b")
        rows = digests_of([1, 2, 3])
        first.is_delivered(rows)
        first.change(first.add([rows[:2]], State.SENT), State.DELIVERED)
        found: list[Any] = []

        def second() -> None:
            with journal.shared.attempt("a/../b") as attempt:
                found.extend([attempt.is_delivered(rows).tolist(), attempt.earlier_summary])

        thread = threading.Thread(target=second)
        thread.start()
        place = part_folder(journal.run, "a/../b")
        until(lambda: '"waiting"' in "".join(map(str, signs(journal.store, place))))
        assert not found
        first.close({}, {})
        first.finish(b"the end")
        thread.join()
        assert found == [[True, True, False], b"the end"]
    assert {each.part_name for each in attempts_in(journal.store)} == {"a/../b"}


def signs(store: Store, place: str) -> list[bytes | None]:
    """The signs of life at a place."""
    return [store.read(name) for name in store.names(place) if name.endswith(CLAIM)]


@pytest.fixture
def own_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose processes keep nothing in memory, and the place of its index."""
    monkeypatch.setattr(digest_index, "IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_one_index_for_all_processes(own_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once on a machine, is private, stays on the disk, and is gone after the run."""
    builds, build = [], digest_index._build

    def counted(*args: Any) -> None:
        builds.append(1)
        build(*args)

    monkeypatch.setattr(digest_index, "_build", counted)
    folder, rows = own_disk / "journal", digests_of([1, 2, 3])
    for known in (False, True):
        with opened(folder) as journal:
            for part in ("0", "1"):
                KNOWN_BEFORE.forget()  # as another process
                with journal.shared.attempt(part) as attempt:
                    if part == "0":
                        assert attempt.is_delivered(rows).all() == known
                    if not known and part == "0":
                        attempt.change(attempt.add([rows], State.SENT), State.DELIVERED)
                    attempt.close({}, {})
                    attempt.finish(b"")
            indexes = [path for path in own_disk.glob("cdp-backfill-*/*/*") if path.is_dir()]
            assert [path.name for path in indexes] == [journal.run] * known
            if known and sys.platform != "win32":
                assert {stat.S_IMODE(path.parent.stat().st_mode) for path in indexes} == {0o700}
                assert stat.S_IMODE(indexes[0].parent.parent.stat().st_mode) == 0o700
    assert len(builds) == 1
    assert not [path for path in own_disk.glob("cdp-backfill-*/*/*") if path.is_dir()]


def test_an_index_that_cannot_be_written(
    own_disk: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clear error that says where and how much; nothing is sent, and all rows are counted."""
    job = cdp.PartitionJob(mapping=OPENED, destination=box.destination)
    for is_second in (False, True):
        with opened(own_disk / "journal", url=box.url) as journal:
            if is_second:
                monkeypatch.setattr(tempfile, "tempdir", str(own_disk / "gone"))
            _, summary = run_part(table_of(100).to_batches(), job, journal=journal.shared)
    assert summary.error is not None
    assert "cannot be written to" in summary.error[1]
    assert "$TMPDIR" in summary.error[1]
    assert (summary.counts["unsent"], len(box.events())) == (100, 90)


def test_refused_folders(tmp_path: Path) -> None:
    """Another backfill, a foreign folder, a file: refused, and nothing in them changes."""
    folder = tmp_path / "journal"
    with opened(folder):
        pass
    with pytest.raises(cdp.JournalError, match="another mapping: timestamp differs"):
        opened(folder, mapping=replace(OPENED, timestamp="other"))
    with pytest.raises(cdp.JournalError, match="belongs to a backfill to"):
        opened(folder, url="http://127.0.0.1:8/v1")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "about.json").write_text("{}")
    (tmp_path / "file").write_text("text")
    for place, why in (
        (foreign, "not a shared journal"),
        (tmp_path, "not a shared journal"),
        (tmp_path / "file", "is a file"),
        (Path(), "not a shared journal"),
        ("", "names none"),
        ("nowhere://x/y", "cannot be opened"),
        ("s3://name:word@bucket/x", "no credentials"),
    ):
        with pytest.raises(cdp.JournalError, match=why):
            opened(place)  # type: ignore[arg-type]
        with pytest.raises(cdp.JournalError):
            cdp.report(place)
    assert [each.name for each in foreign.iterdir()] == ["about.json"]
    assert (foreign / "about.json").read_text() == "{}"
    with pytest.raises(cdp.JournalError, match="There is no journal"):
        cdp.report(tmp_path / "none")


def test_a_run_that_is_asked_to_stop(box: Sandbox, tmp_path: Path) -> None:
    """Its parts stop, wherever they are: those that have begun, and those yet to come."""
    job = cdp.PartitionJob(mapping=OPENED, destination=box.destination)
    with opened(tmp_path / "journal", url=box.url) as journal:
        with journal.shared.attempt("0") as attempt:
            journal.stop()
            attempt._claim.on_beat()
            assert attempt.is_stopped
        _, summary = run_part(table_of(100).to_batches(), job, "1", journal=journal.shared)
    assert summary.counts["unsent"] == 100
    assert summary.error is not None
    assert "interrupted" in summary.error[1]
    assert box.events().empty


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes")
def test_private_files(box: Sandbox, tmp_path: Path) -> None:
    """Only their owner can read the files, and they hold no id, no cell and no key."""
    folder = tmp_path / "journal"
    job = cdp.PartitionJob(mapping=OPENED, destination=box.destination)
    with opened(folder, url=box.url) as journal:
        run_part(table_of(100).to_batches(), job, journal=journal.shared)
    files = [each for each in folder.rglob("*") if each.is_file()]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    content = b"".join(each.read_bytes() for each in files)
    assert box.api_key.encode() not in content
    assert str(opens(1)["uid"][0]).encode() not in content.replace(b'"uid"', b"")


def test_a_folder_that_cannot_be_written_any_more(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part stops with one clear error, and accounts for every row."""
    with opened(tmp_path / "journal", url=box.url) as journal:
        job = cdp.PartitionJob(mapping=OPENED, destination=box.destination)
        write, full = Store.write, OSError(28, "No space left on device")

        def fail(self: Store, name: str, content: bytes, **options: Any) -> None:
            if name.endswith(".digests"):
                raise full
            write(self, name, content, **options)

        monkeypatch.setattr(Store, "write", fail)
        _, summary = run_part(table_of(1_000).to_batches(), job, journal=journal.shared)
    assert summary.error is not None
    assert "cannot be written any more (No space left on device)" in summary.error[1]
    assert sum(summary.counts.values()) == 1_000
    assert summary.counts["delivered"] == len(box.events()) == 0


def test_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in a bucket, whose objects appear as a whole and have times of the server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        in_a_bucket(f"{host}:{port}")
    finally:
        server.stop()


def in_a_bucket(endpoint: str) -> None:
    """Two runs with a journal in a bucket, the second in another layout."""
    rest = f"scheme=http&endpoint_override={endpoint}&region=us-east-1"
    Store.at(f"s3://bucket?{rest}&allow_bucket_creation=true")._opened[0].create_dir("bucket")
    where = f"s3://bucket/a/journal?{rest}"
    with cdp.sandbox() as box:
        job = cdp.PartitionJob(mapping=OPENED, destination=box.destination)
        requests = []
        for parts in (1, 2):
            with FolderJournal(where, mapping=OPENED, url=box.url) as journal:
                table = table_of(1_000)
                for part in range(parts):
                    rows = table.slice(part * 500, 1_000 // parts).to_batches()
                    summary = run_part(rows, job, str(part), journal=journal.shared)[1]
                    requests.append(summary.stats.requests)
                journal.end({})
        assert len(box.events()) == 900
        assert requests[0] > 0 == sum(requests[1:])
        assert cdp.report(where).counts["delivered"] == 900


def test_a_file_system_that_cannot_replace_a_file(tmp_path: Path) -> None:
    """Files are moved to their place, and a claim looks more than once."""
    store = Store.at(tmp_path)
    vars(store)["_opened"] = pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem()), "x"
    for content in (b"one", b"two"):
        store.write("a/b", content)
        assert store.read("a/b") == content
        assert set(store.names("a")) == {"a/b"}
    store.delete("a/b")
    store.delete("a/b")
    assert store.read("a/b") is None
    first, second = (Claim(store, f"place/{number}", "place") for number in range(2))
    assert first.try_to_take() is None
    assert second.try_to_take() is not None
    first.release()
