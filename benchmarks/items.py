"""What `rvrun plan` and `rvrun render` cost for 100,000 items: CPU time and peak memory.

The project has a command that shares out strings. All of them are done, and one more is added.

    python benchmarks/items.py [--items 100000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

LAND = """
import rvrun

class LandConfig(rvrun.PipelineConfig):
    scenes: tuple[str, ...]
    def build(self):
        return Land(self)

class Land(rvrun.Pipeline):
    commands = ("chip", "train")
    split_commands = ("chip",)
    items = {"chip": "scenes"}
    def chip(self, item):
        pass
    def train(self):
        pass

def get_config(runner, number: int = 1):
    return LandConfig(root_uri="out", scenes=tuple(f"scene-{i:06}" for i in range(number)))
"""


def measure(folder: str, *words: str) -> tuple[float, float, str]:
    """Return the CPU seconds and the peak memory in MiB of a call of rvrun, and its output."""
    command = [sys.executable, "-m", "rvrun", *words]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output


def show(name: str, runs: list[tuple[float, float, str]]) -> None:
    seconds = statistics.median(run[0] for run in runs)
    print(f"{name:44} {seconds:5.2f} s  {max(run[1] for run in runs):5.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "land.py").write_text(LAND, encoding="utf-8")
        words = ("land.py", "--splits", "8", "-a", "number")
        many, more = str(arguments.items), str(arguments.items + 1)
        rounds = range(arguments.rounds)
        show("rvrun plan, nothing done", [measure(folder, "plan", *words, many) for _ in rounds])
        show("rvrun run local -j1: each item once", [measure(folder, "run", "local", *words, many)])
        done = [measure(folder, "plan", *words, many) for _ in rounds]
        assert "all up to date" in done[0][2]
        show("rvrun plan, all done", done)
        added = [measure(folder, "plan", *words, more) for _ in rounds]
        assert f"1 of {int(more):,} items" in added[0][2]
        show("rvrun plan, one more item", added)
        show(
            "rvrun render local, one more item", [measure(folder, "render", "local", *words, more)]
        )
        show("rvrun render local, unchanged", [measure(folder, "render", "local", *words, more)])
        show("make: one more item", [measure(folder, "run", "local", *words, more)])


if __name__ == "__main__":
    main()
