"""Measure how long rvrun takes to start, compared with a Python that does nothing.

    python benchmarks/startup.py
    python benchmarks/startup.py --other /tmp/before/bin/rvrun    also an rvrun installed elsewhere

Prints Markdown. Run it with the interpreter of the environment that rvrun is installed in, without
`-e`. All contestants take turns in one run; see `benchmark.py`. The other rvrun should use the same
interpreter.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmark import (
    RVRUN,
    Contestant,
    bare_python,
    measure,
    print_goal,
    print_machine,
    print_samples,
    race,
    ratio,
)

EXAMPLE = Path(__file__).parent.parent / "examples" / "tiny.py"
BARE = "python -c pass"
#: Goals, as multiples of bare Python.
GOALS = {"rvrun --help": 8, "rvrun plan tiny.py": 12}
TARGET = "run_command runs/tiny/config/tiny.json cut --split-ind 0 --num-splits 2"


def contestants(folder: Path, program: str, name: str = "rvrun") -> Iterator[Contestant]:
    """Yield the calls of an rvrun that are measured."""
    for words in ("--help", "plan tiny.py"):
        yield Contestant(name=f"{name} {words}", argv=[program, *words.split()], folder=folder)
    yield Contestant(name=f"{name} run_command", argv=[program, *TARGET.split()], folder=folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, metavar="N", default=40, help="default: 40")
    parser.add_argument("--other", metavar="PATH", help="an rvrun to compare with")
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="rvrun-startup-") as name:
        folder = Path(name).resolve()
        shutil.copy(EXAMPLE, folder)
        render = [RVRUN, "render", "local", "tiny.py", "--splits", "2"]
        measure(Contestant(name="render", argv=render, folder=folder))
        calls = [bare_python(folder), *contestants(folder, RVRUN)]
        if options.other:
            calls += contestants(folder, str(Path(options.other).absolute()), "other rvrun")
        samples = race(calls, options.rounds)
    print_samples(samples, BARE)
    for call, most in GOALS.items():
        times = ratio(samples, call, BARE)
        print_goal(f"{call} at most {most} x bare Python", f"{times:.2f}", achieved=times <= most)
    if options.other:
        times = ratio(samples, "rvrun run_command", "other rvrun run_command")
        print(f"rvrun run_command takes {times:.2f} x the time of the other one.\n")


if __name__ == "__main__":
    main()
