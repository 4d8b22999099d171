"""Reads hostile inputs at full size: how long each takes, how much memory, and how it ends.

Run it with ``python benchmarks/hostile.py``. It makes one input at a time in a temporary folder,
which needs up to 1.1 GB, and plans it in a process of its own. Words choose inputs by their names;
``--scale 0.01`` makes smaller ones; ``--send`` also sends them to a sandbox in another process. A
process that needs more memory or processor time than allowed is ended, and its input is marked.
Every other end is right: rows, or one error that says what is wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import psutil

import cdp_backfill as cdp
from common import peak_mb, print_machine, running_sandbox
from hostile_inputs import CASES

_WIDTH: Final = 170


def read(name: str, path: str, url: str) -> str:
    """Plan an input, and send it if there is an address; returns how it ends."""
    options = CASES[name].options
    try:
        plan = cdp.plan(path, **options)
        end = ", ".join(f"{count:,} {what}" for what, count in plan.counts.items() if count)
        end = end or f"{len(plan.questions)} questions"
        if url and options:
            destination = cdp.Destination(api_key="k", base_url=url)
            report = cdp.send(
                path, **options, destination=destination, journal=False, progress=False
            )
            end += "; sent: " + ", ".join(f"{n:,} {what}" for what, n in report.counts.items() if n)
    except cdp.BackfillError as error:
        return f"{type(error).__name__}: {error}"
    return end


def run(name: str, scale: float, url: str, memory: float, seconds: float) -> None:
    """Make an input, read it in another process and print what that took."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        making = [sys.executable, __file__, "--make", name, folder, str(scale)]
        made = subprocess.run(making, capture_output=True, text=True, check=False)
        path = Path(made.stdout.strip())
        if made.returncode:
            print(f"{name:<36} cannot be made here ({made.returncode})", flush=True)
            return
        size = path.stat().st_size / 1e6
        command = [sys.executable, __file__, "--read", name, str(path), url]
        start = time.monotonic()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
        ) as child:
            process, ended = psutil.Process(child.pid), ""
            while child.poll() is None and not ended:
                try:
                    used = process.cpu_times()
                    if process.memory_info().rss > memory * 1e6:
                        ended = f"ENDED: more than {memory:,.0f} MB"
                    elif used.user + used.system > seconds:
                        ended = f"ENDED: more than {seconds:.0f} CPU seconds"
                except psutil.Error:
                    break
                time.sleep(0.02)
            if ended:
                child.kill()
            text, _ = child.communicate()
        took = time.monotonic() - start
    last = " ".join(text.replace(folder, "").split())
    if not ended and child.returncode:
        ended = f"CRASHED ({child.returncode}):"
    print(f"{name:<36} {size:8.1f} MB {took:6.1f} s  {ended} {last}"[: _WIDTH + 60], flush=True)


def main() -> None:
    """Run all inputs, or those whose names contain a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of names")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the inputs, up to 1.0")
    parser.add_argument("--send", action="store_true", help="also send each input to a sandbox")
    parser.add_argument("--memory", type=float, default=4_000, help="MB that a process may use")
    parser.add_argument("--seconds", type=float, default=120, help="CPU seconds that it may use")
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        name, folder, scale = options.make
        print(CASES[name].make(Path(folder), float(scale)))
        return
    if options.read:
        cpu = time.process_time()
        end = read(*options.read)
        print(f"{time.process_time() - cpu:6.1f} CPU s {peak_mb():6.0f} MB peak  {end}")
        return
    print_machine()
    with ExitStack() as stack:
        url = stack.enter_context(running_sandbox()).url if options.send else ""
        for name in CASES:
            if not options.words or any(word in name for word in options.words):
                run(name, options.scale, url, options.memory, options.seconds)


if __name__ == "__main__":
    main()
