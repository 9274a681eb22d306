"""Measure warm workers: targets that are forked, compared with targets in fresh processes.

    python benchmarks/warm.py                 targets and memory
    python benchmarks/warm.py --splits 200    fewer targets
    python benchmarks/warm.py --module torch  what the targets of the memory part import

1. Two commands with N splits each that do nothing, under `make -j2`: a pipeline that imports NumPy,
   and one that imports nothing. RVRUN is `/bin/true`, `python -c pass`, rvrun in fresh processes,
   and rvrun beside a warm worker.
2. The memory of eight targets that run at the same time, with and without a warm worker, as
   proportional set size (PSS), which counts shared pages once.

Prints Markdown. Run it with the interpreter of an environment that rvrun and NumPy are installed
in, without `-e`. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from benchmark import (
    PYTHON,
    RVRUN,
    Contestant,
    Failed,
    clean_environment,
    duration,
    forget,
    measure,
    median,
    print_goal,
    print_machine,
    print_samples,
    race,
    ratio,
    write_pipeline,
)

TRUE = "/bin/true"
NO_CODE = "python -c pass"
FRESH = "rvrun, fresh processes"
WARM = "rvrun, warm worker"
#: A file system in memory.
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the folder in it gets a random name
#: How many targets run at the same time in the memory part.
PARALLEL = 8
#: Targets that have imported a module, and then wait until the file `end` exists.
WAITING = """\
import os
import pathlib
import time

import {module}
import rvrun


class Wait(rvrun.Pipeline):
    commands = ("wait",)
    split_commands = ("wait",)

    def wait(self, split_ind, num_splits):
        pathlib.Path(f"pid-{{os.getpid()}}").touch()
        while not pathlib.Path("end").exists():
            time.sleep(0.1)


class WaitConfig(rvrun.PipelineConfig):
    def build(self):
        return Wait(self)


def get_config(runner):
    return WaitConfig(root_uri="out")
"""


def contestants(folder: Path, run_dir: Path) -> Iterator[Contestant]:
    """Yield the ways to run the Makefile in `run_dir`."""
    make = ["make", "-j2", "-C", str(run_dir), "all"]
    for name, argv in (
        (TRUE, [*make, f"RVRUN={shutil.which('true')}"]),
        (NO_CODE, [*make, f"RVRUN={PYTHON} -c pass"]),
        (FRESH, [*make, f"RVRUN={PYTHON} -P -m rvrun"]),
        (WARM, [RVRUN, "warm", *make]),
    ):
        yield Contestant(name=name, argv=argv, folder=folder, prepare=lambda: forget(run_dir))


def compare_times(folder: Path, name: str, *, splits: int, rounds: int) -> None:
    """Measure 2 x `splits` targets of the pipeline in `name`.py, and print the result."""
    run_dir = folder / "runs" / name
    render = [RVRUN, "render", "local", f"{name}.py", "--splits", str(splits)]
    measure(Contestant(name="render", argv=render, folder=folder))
    samples = race(list(contestants(folder, run_dir)), rounds, warm_up=False)
    print_samples(samples, TRUE)
    for contestant in samples:
        seconds = median(samples, contestant) / (2 * splits)
        print(f"- {contestant}: {duration(seconds)} per target, {1 / seconds:.0f} targets/s")
    print()
    floor, fresh = ratio(samples, WARM, TRUE), ratio(samples, WARM, FRESH)
    goal = 0.1 if name == "numpy_" else 0.5
    if name == "numpy_":
        print_goal(f"at most 3 x {TRUE}", f"{floor:.2f} x", achieved=floor <= 3)
    print_goal(f"at most {goal} x fresh", f"{fresh:.3f} x", achieved=fresh <= goal)


def compare_memory(folder: Path, module: str) -> None:
    """Print the memory of targets that have imported `module` and run at the same time."""
    (folder / "wait.py").write_text(WAITING.format(module=module))
    print(f"| {PARALLEL} targets after `import {module}` | PSS of all | per target |")
    print("| --- | ---: | ---: |")
    sizes = {}
    for name, option in ((FRESH, "--no-warm"), (WARM, "--warm")):
        sizes[name] = measure_memory(folder, option)
        print(f"| {name} | {sizes[name]:,.0f} MiB | {sizes[name] / PARALLEL:,.0f} MiB |")
    print(f"\n{sizes[WARM] / sizes[FRESH]:.2f} x.\n")


def measure_memory(folder: Path, option: str) -> float:
    """Return the memory of all processes of a run whose targets wait, in MiB."""
    for old in (*folder.glob("pid-*"), folder / "end"):
        old.unlink(missing_ok=True)
    shutil.rmtree(folder / "runs" / "wait", ignore_errors=True)
    words = ["run", "local", "wait.py", "--splits", str(PARALLEL), f"-j{PARALLEL}", option]
    run = subprocess.Popen([RVRUN, "-q", *words], cwd=folder, env=clean_environment())
    while len(list(folder.glob("pid-*"))) < PARALLEL:
        time.sleep(0.2)
        if run.poll() is not None:
            raise Failed(f"rvrun {' '.join(words)} exited with {run.returncode}")
    processes = psutil.Process(run.pid).children(recursive=True)
    size = sum(process.memory_full_info().pss for process in processes) / 2**20
    (folder / "end").touch()
    run.wait()
    return size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=1_000, help="default: 1,000")
    parser.add_argument("--rounds", type=int, default=1, help="default: 1")
    parser.add_argument("--module", default="numpy", help="default: numpy")
    options = parser.parse_args()
    print_machine()
    # In memory if possible: what is measured includes three new files per target.
    place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="rvrun-warm-benchmark-", dir=place) as name:
        folder = Path(name).resolve()
        for pipeline, imports in (("numpy_", "import numpy\n"), ("nothing", "")):
            write_pipeline(folder, pipeline, imports)
            print(f"## 2 x {options.splits:,} targets, {imports.strip() or 'no imports'}\n")
            compare_times(folder, pipeline, splits=options.splits, rounds=options.rounds)
        print("## Memory\n")
        compare_memory(folder, options.module)


if __name__ == "__main__":
    main()
