"""Measure what a target of a `pipeline.toml` costs, compared with a target of a Python pipeline.

    python benchmarks/programs.py

The method does nothing, or runs the program `true`, which is all that the `pipeline.toml` runs. By
hand the program replaces the process; in a run directory it is a child, and all leave stamps, logs
and records. Prints Markdown.
Run it with the interpreter of the environment that rvrun is installed in.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmark import (
    RVRUN,
    Contestant,
    measure,
    print_goal,
    print_machine,
    print_samples,
    race,
    ratio,
)

NATIVE = """
import rvrun
import subprocess

class NothingConfig(rvrun.PipelineConfig):
    def build(self):
        return Nothing(self)

class Nothing(rvrun.Pipeline):
    commands = ("nothing", "call")

    def nothing(self):
        pass

    def call(self):
        subprocess.run(["true"], check=True)

def get_config(runner):
    return NothingConfig(root_uri="out")
"""
PROGRAM = 'name = "program"\nroot = "out"\n[commands.nothing]\nrun = ["true"]\n'
#: The most that a program may cost, as a multiple of a method.
GOAL = 1.05


def prepare(folder: Path, label: str, config: str, command: str) -> list[Contestant]:
    """Render a pipeline, and return the calls of its target by hand and in a run."""
    out = f"runs/{label.replace(' ', '-')}"
    render = [RVRUN, "render", "local", config, "--out", out]
    measure(Contestant(name="render", argv=render, folder=folder))
    (saved,) = (folder / out / "config").glob("*.json")
    (folder / out / "done" / saved.stem).mkdir(parents=True)
    call = [RVRUN, "run_command", f"{out}/config/{saved.name}", command]
    run = {"RVRUN_RUN_DIR": str(folder / out), "RVRUN_LOGS": "1", "MAKEFLAGS": "B"}
    return [
        Contestant(name=label, argv=call, folder=folder),
        Contestant(name=f"{label} in a run", argv=call, folder=folder, environment=run),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, metavar="N", default=40, help="default: 40")
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="rvrun-programs-") as name:
        folder = Path(name).resolve()
        (folder / "nothing.py").write_text(NATIVE, encoding="utf-8")
        (folder / "pipeline.toml").write_text(PROGRAM, encoding="utf-8")
        contestants = [
            contestant
            for label, config, command in (
                ("method", "nothing.py", "nothing"),
                ("method that calls true", "nothing.py", "call"),
                ("program", "pipeline.toml", "nothing"),
            )
            for contestant in prepare(folder, label, config, command)
        ]
        samples = race(contestants, options.rounds)
    print_samples(samples, "method")
    for call, other in (
        ("program", "method"),
        ("program in a run", "method that calls true in a run"),
    ):
        times = ratio(samples, call, other)
        text = f"a {call} at most {GOAL} x a {other}"
        print_goal(text, f"{times:.2f}", achieved=times <= GOAL)


if __name__ == "__main__":
    main()
