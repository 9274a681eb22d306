"""What code fingerprints add to `rvrun render` of an unchanged project with 100 source files.

The project's pipeline has three commands, which reach all files. `off` and `rerun` take turns.

    python benchmarks/code_fingerprints.py [--files 100] [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

LAND = """
import rvrun
{imports}

class LandConfig(rvrun.PipelineConfig):
    top: int = 1
    def build(self):
        return Land(self)

class Land(rvrun.Pipeline):
    commands = ("chip", "train", "eval")
    def chip(self):
        return {calls}
    def train(self):
        return {calls}
    def eval(self):
        return {calls}

def get_config(runner):
    return LandConfig(root_uri="out")
"""
FUNCTION = '''
def function{number}(values, factor=2):
    """Scale values, and add what the next function returns."""
    scaled = [value * factor for value in values if value > {number}]
    for index, value in enumerate(scaled):
        scaled[index] = math.sqrt(abs(value)) + len(str(value))
    return {call}
'''


def write_project(folder: pathlib.Path, num_files: int, num_functions: int) -> None:
    """Write modules whose functions call each other, and a pipeline that calls all modules."""
    last = num_functions - 1
    for module in range(num_files):
        functions = (
            FUNCTION.format(
                number=n, call=f"function{n + 1}(scaled)" if n < last else "sum(scaled)"
            )
            for n in range(num_functions)
        )
        (folder / f"part{module}.py").write_text("import math\n" + "".join(functions))
    names = [f"part{module}" for module in range(num_files)]
    imports = "\n".join(f"import {name}" for name in names)
    calls = " + ".join(f"{name}.function0([1])" for name in names)
    (folder / "land.py").write_text(LAND.format(imports=imports, calls=calls))


def seconds(folder: pathlib.Path, mode: str) -> float:
    """Return how long `rvrun render` takes with `code` = `mode`."""
    environment = {**os.environ, "RVRUN_CODE": mode, "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "rvrun", "-q", "render", "local", "land.py", "--out", mode]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the medians, and the median of the differences within each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--functions", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_project(folder, options.files, options.functions)
        # Files that were just written are not remembered yet.
        time.sleep(1.5)
        seconds(folder, "off")
        first = seconds(folder, "rerun")
        pairs = [(seconds(folder, "off"), seconds(folder, "rerun")) for _ in range(options.rounds)]
    off, rerun = (statistics.median(times) for times in zip(*pairs, strict=True))
    added = statistics.median(after - before for before, after in pairs)
    print(f"{options.files} files with {options.functions} functions each, {options.rounds} rounds")
    print(f"off {1000 * off:.0f} ms, rerun {1000 * rerun:.0f} ms, added {1000 * added:.0f} ms")
    print(f"the first time {1000 * first:.0f} ms")


if __name__ == "__main__":
    main()
