"""Runs the chaos: for some minutes, one chain again, or outages in real time.

python -m tests.chaos 15              chains for 15 minutes
python -m tests.chaos seed 4711       one chain again
python -m tests.chaos outages 5 good  a server that is away for 5 s, and for good
"""

from __future__ import annotations

import itertools
import sys
import threading
import time

from tests.chaos import outages
from tests.chaos.chains import Chain, processes
from tests.chaos.faults import KINDS, PLACES, WHENS
from tests.chaos.judge import Figures
from tests.chaos.sweep import sweep_all

CHAINS_AT_A_TIME = 2


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run_for(seconds: float, first_seed: int, figures: Figures) -> None:
    """Run chains for some seconds, two at a time, and show what goes wrong at once."""
    end = time.monotonic() + seconds
    seeds = itertools.count(first_seed)

    def turn() -> None:
        while time.monotonic() < end:
            seed, own = next(seeds), Figures()
            try:
                Chain(seed, own).run()
            except Exception as error:  # noqa: BLE001  # the others go on
                own.wrong.append(f"seed {seed}: {error!r}")
            with lock:
                figures.add(own)
            for line in own.wrong:
                say(f"WRONG  {line}")
            if own.wrong:
                say(f"       again: python -m tests.chaos seed {seed}")

    lock = threading.Lock()
    threads = [threading.Thread(target=turn) for _ in range(CHAINS_AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def show(figures: Figures) -> None:
    """Print what was done and found."""
    say(
        f"{'faults':<16}"
        + "".join(f"{f'{when}, {place}':>16}" for when in WHENS for place in PLACES)
    )
    for kind in KINDS:
        cells = [figures.faults[kind, when, place] for when in WHENS for place in PLACES]
        say(f"{kind:<16}" + "".join(f"{times:>16,}" for times in cells))
    places = ", ".join(f"{times} at {place}" for place, times in sorted(figures.kills.items()))
    inputs = ", ".join(f"{times} {name}" for name, times in sorted(figures.inputs.items()))
    say(f"chains           {figures.chains:,} ({inputs})")
    for trait, times in sorted(figures.traits.items()):
        say(f"                 {times:,} {trait}")
    say(f"kills            {figures.kills.total():,} ({places})")
    say(f"interrupts       {figures.interrupts:,}")
    say(f"resumes          {figures.resumes:,}")
    say(f"retries          {figures.retries:,}")
    say(f"faults           {figures.faults.total():,}")
    say(f"rows             {figures.rows:,}, accepted {figures.accepted:,} times")
    say(f"lost             {figures.lost:,}")
    say(f"wrongly skipped  {figures.skipped:,}")
    say(f"arrived twice    {figures.twice:,}; counted in maybe_twice {figures.counted:,}")
    say(f"  above it       {figures.above:,}")
    say(f"wrong            {len(figures.wrong):,}")


def main(arguments: list[str]) -> int:
    """Run what the arguments ask for; 1 if anything is wrong."""
    if arguments[:1] == ["outages"]:
        return outages.main(arguments[1:]) > 0
    figures = Figures()
    if arguments[:1] == ["seed"]:
        for again in arguments[1:]:
            Chain(int(again), figures).run()
        for line in figures.wrong:
            say(f"WRONG  {line}")
    else:
        minutes = float(arguments[0]) if arguments else 15.0
        seed = int(arguments[1]) if arguments[1:] else time.time_ns() % 10**9
        ours, theirs = processes().Pipe()
        sweeping = processes().Process(target=sweep_all, args=(theirs,))
        sweeping.start()
        theirs.close()
        run_for(minutes * 60, seed, figures)
        try:
            swept = ours.recv()
        except EOFError:
            swept = Figures(wrong=["the sweep over all faults broke off"])
        for line in swept.wrong:
            say(f"WRONG  {line}")
        figures.add(swept)
    show(figures)
    return bool(figures.wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
