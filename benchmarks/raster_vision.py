"""Compare Raster Vision's runner with rvrun's on the same Raster Vision pipeline.

    python benchmarks/raster_vision.py                 2 x 100 splits that do nothing
    python benchmarks/raster_vision.py --splits 1000

Prints Markdown. Run it with the interpreter of an environment that rvrun and
rastervision-pipeline are installed in. Contestants take turns (A B A B ...), so that noise on the
machine affects all of them equally.

- CPU: user and system time, including child processes.
- processes, memory: the peak of the contestant and all its descendants, sampled ten times a second.
  Memory is proportional set size (PSS), which counts shared memory once.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

import rvrun

SCRIPTS = Path(sys.executable).parent
#: Time between two samples of the processes, in seconds.
INTERVAL = 0.1

PLUGIN = '''\
"""Two split commands that do nothing."""

def register_plugin(registry):
    registry.set_plugin_version("rastervision.noop", 0)

import rastervision.pipeline
from rastervision.pipeline.config import register_config
from rastervision.pipeline.pipeline import Pipeline
from rastervision.pipeline.pipeline_config import PipelineConfig

@register_config("noop.noop")
class NoopConfig(PipelineConfig):
    def build(self, tmp_dir):
        return Noop(self, tmp_dir)

class Noop(Pipeline):
    commands = ["first", "second"]
    split_commands = ["first", "second"]
    gpu_commands = []

    def first(self, split_ind=0, num_splits=1):
        pass

    def second(self, split_ind=0, num_splits=1):
        pass
'''
CONFIG = """\
from rastervision.noop import NoopConfig

def get_config(runner):
    return NoopConfig(root_uri="out")
"""


@dataclass(frozen=True)
class Cost:
    """Cost of one call: wall and CPU seconds, peak number of processes, peak memory in MiB."""

    wall: float
    cpu: float
    processes: int
    memory: float


def measure(command: list[str], folder: Path, environment: dict[str, str]) -> Cost:
    """Run `command`, which must succeed, and return its cost."""
    before = _cpu()
    start = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        watch = Watch(process.pid)
        watch.start()
        code = process.wait()
    wall = time.perf_counter() - start
    watch.stop()
    if code != 0:
        sys.exit(f"{command} exited with {code}: {(folder / 'log').read_text()[-2000:]}")
    return Cost(wall, _cpu() - before, watch.processes, watch.memory)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Watch(threading.Thread):
    """A thread that samples a process and its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.ended = threading.Event()
        self.processes, self.memory = 0, 0.0

    def run(self) -> None:
        """Sample until `stop` is called."""
        while not self.ended.wait(INTERVAL):
            sizes = list(self._sizes())
            self.processes = max(self.processes, len(sizes))
            self.memory = max(self.memory, sum(sizes) / 2**20)

    def _sizes(self) -> Iterator[int]:
        try:
            family = [self.root, *self.root.children(recursive=True)]
        except psutil.Error:
            return
        for process in family:
            try:
                full = process.memory_full_info()
            except psutil.Error:
                continue
            yield getattr(full, "pss", full.rss)

    def stop(self) -> None:
        """Stop sampling and wait for the thread."""
        self.ended.set()
        self.join()


def contestants(splits: int, jobs: int) -> dict[str, list[str]]:
    """The commands to measure, by name."""
    words = ["run", "local", "cfg.py", "--splits", str(splits)]
    return {
        "rastervision run local": [str(SCRIPTS / "rastervision"), *words],
        f"rvrun run local -j{jobs}": [str(SCRIPTS / "rvrun"), *words, f"-j{jobs}"],
        f"rvrun run local -j{jobs} --no-warm": [
            *(str(SCRIPTS / "rvrun"), *words),
            *(f"-j{jobs}", "--no-warm"),
        ],
        f"python -c pass, {2 * splits + 1} times": [
            "sh",
            "-c",
            f"for i in $(seq {2 * splits + 1}); do {sys.executable} -c pass; done",
        ],
    }


def run_round(splits: int, jobs: int) -> Iterator[tuple[str, Cost]]:
    """Measure each contestant once, in a directory of its own."""
    for name, command in contestants(splits, jobs).items():
        with tempfile.TemporaryDirectory() as path:
            folder = Path(path)
            plugin = folder / "rastervision" / "noop" / "__init__.py"
            plugin.parent.mkdir(parents=True)
            plugin.write_text(PLUGIN)
            (folder / "cfg.py").write_text(CONFIG)
            (folder / "tmp").mkdir()
            environment = os.environ | {
                "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": path,
                "TMPDIR": str(folder / "tmp"),
            }
            yield name, measure(command, folder, environment)


def report(costs: dict[str, list[Cost]]) -> None:
    """Print the medians as a Markdown table."""
    print("| what | wall | CPU | processes | memory |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, samples in costs.items():
        wall, cpu, processes, memory = (
            statistics.median(getattr(cost, field) for cost in samples)
            for field in ("wall", "cpu", "processes", "memory")
        )
        print(f"| {name} | {wall:.1f} s | {cpu:.1f} s | {processes:.0f} | {memory:.0f} MiB |")


def main() -> None:
    """Run the comparison and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    costs: dict[str, list[Cost]] = {}
    for _ in range(options.rounds):
        for name, cost in run_round(options.splits, options.jobs):
            costs.setdefault(name, []).append(cost)
    print(
        f"2 x {options.splits} splits that do nothing. Rounds: {options.rounds}. {os.cpu_count()}"
    )
    print(f"cores, {platform.system()} {platform.machine()}, CPython {platform.python_version()},")
    print(f"rvrun {rvrun.__version__}, Raster Vision {version('rastervision-pipeline')}.\n")
    report(costs)


if __name__ == "__main__":
    main()
