"""Measure how far estimates are from what runs then take.

    python benchmarks/estimates.py               20 random pipelines; about 8 minutes
    python benchmarks/estimates.py --seeds 4

Each pipeline has random commands and needs, and items that each sleep for a random time. It runs
once. Then `rvrun plan --estimate` predicts a run with other numbers of splits, parallel targets
and items, and that run is measured. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = '''\
"""A pipeline whose items sleep for random times."""

import random
import time

import rvrun


def shape(seed):
    rng = random.Random(seed)
    names = [f"c{number}" for number in range(rng.randint(2, 5))]
    split = [name for name in names if name == "c0" or rng.random() < 0.7]
    needs = {n: rng.sample(names[:i], min(i, rng.randint(1, 2))) for i, n in enumerate(names)}
    return names, split, needs


class SleepConfig(rvrun.PipelineConfig):
    seed: int = 0
    scenes: tuple[int, ...] = ()

    def build(self):
        names, split, needs = shape(self.seed)
        members = {"commands": tuple(names), "split_commands": tuple(split), "needs": needs}
        members["items"] = dict.fromkeys(split, "scenes")
        for name in names:
            members[name] = work(name) if name in split else whole(name)
        return type("Sleep", (rvrun.Pipeline,), {**members, "__module__": __name__})(self)


def work(name):
    def method(self, split_ind, num_splits):
        for scene in rvrun.share(self.config.scenes, split_ind, num_splits):
            # Most are quick, and a few take many times as long.
            rng = random.Random(f"{self.config.seed} {name} {scene}")
            time.sleep(min(2.0, 0.2 * rng.lognormvariate(0, 0.8)))

    return method


def whole(name):
    def method(self):
        time.sleep(random.Random(f"{self.config.seed} {name}").uniform(0.5, 3))

    return method


def get_config(runner, seed: int = 0, number: int = 20):
    return SleepConfig(root_uri="out", name="sleep", seed=seed, scenes=tuple(range(number)))
'''


def rvrun(folder: Path, *words: str) -> str:
    """Run rvrun, which must succeed; return what it prints."""
    command = [sys.executable, "-m", "rvrun", *words]
    # Code fingerprints do not see methods that are made at run time.
    environment = {**os.environ, "RVRUN_CODE": "off"}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def makespan(records: Path) -> float:
    """Return the seconds from the first start of a target to the last end."""
    times: list[float] = [
        json.loads(line)["time"]
        for path in records.rglob("*.jsonl")
        if not path.relative_to(records).parts[0].startswith(".")
        for line in path.read_text().splitlines()
    ]
    return max(times) - min(times)


def measure(seed: int, folder: Path) -> tuple[str, float]:
    """Run, predict and run one pipeline; return a row, and the relative error."""
    rng = random.Random(seed)  # noqa: S311 - not for security
    recorded, splits = rng.randint(3, 10), rng.randint(1, 20)
    jobs, other_jobs = rng.randint(2, 6), rng.randint(2, 6)
    number = rng.randint(20, 50)
    other = rng.randint(number // 2, 2 * number)

    def words(items: int, splits: int, jobs: int) -> list[str]:
        arguments = ["-a", "seed", str(seed), "-a", "number", str(items)]
        return ["sleep.py", *arguments, "--splits", str(splits), f"-j{jobs}"]

    first, second = f"runs/{seed}-1", f"runs/{seed}-2"
    rvrun(folder, "run", "local", *words(number, recorded, jobs), "--out", first)
    rvrun(folder, "records", "summary", first, "--out", f"{seed}.json")
    with_estimate = ("--estimate", "--json", "--out", second)
    os.environ["RVRUN_ESTIMATES"] = str(folder / f"{seed}.json")
    printed = rvrun(folder, "plan", *words(other, splits, other_jobs), *with_estimate)
    predicted = json.loads(printed)["seconds"]
    rvrun(folder, "run", "local", *words(other, splits, other_jobs), "--out", second)
    actual = makespan(folder / second / "records")
    error = abs(predicted - actual) / actual
    changes = f"{recorded} → {splits} | {number} → {other} | {jobs} → {other_jobs}"
    return f"| {seed} | {changes} | {predicted:.2f} s | {actual:.2f} s | {error:.0%} |", error


def run(seeds: Sequence[int], folder: Path) -> list[float]:
    """Print a table of pipelines; return the relative errors."""
    (folder / "sleep.py").write_text(SOURCE)
    print("| seed | splits | items | -j | predicted | measured | error |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: |")
    errors = []
    for seed in seeds:
        row, error = measure(seed, folder)
        print(row, flush=True)
        errors.append(error)
    print(f"\nmedian error {statistics.median(errors):.1%}, largest {max(errors):.1%}")
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, metavar="N", default=20, help="default: 20")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(range(arguments.seeds), Path(folder))


if __name__ == "__main__":
    main()
