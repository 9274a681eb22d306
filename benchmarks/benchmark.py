"""Measure the time, memory and file sizes of rvrun and of what it is compared with.

    python benchmarks/benchmark.py        all parts
    python benchmarks/benchmark.py a d    only parts a and d

    a   compile and render two split commands, N splits each
    b   time make takes to read the Makefile, compared with a handwritten one
    c   2 x 1,000 targets that do nothing, under make -j2
    d   startup time of rvrun
    e   rvrun diff of two plans of 1,000,000 targets
    f   rvrun run batch of 600 jobs against an endpoint that answers in 100 ms

Prints Markdown. Run it with the interpreter of the environment that rvrun is installed in.
Within a part the contestants take turns (A B C A B C ...), so that noise on the machine affects all
of them equally. A ratio is the median of the ratios within each round.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from endpoint import Endpoint

import rvrun

PYTHON = sys.executable
RVRUN = str(Path(PYTHON).with_name("rvrun"))

PIPELINE = """\
{imports}import rvrun


class Noop(rvrun.Pipeline):
    commands = ("first", "second")
    split_commands = ("first", "second")

    def first(self, split_ind, num_splits):
        pass

    def second(self, split_ind, num_splits):
        pass


class NoopConfig(rvrun.PipelineConfig):
    def build(self):
        return Noop(self)


def get_config(runner):
    return NoopConfig(root_uri="out")
"""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A command line to time, expected to exit with `code`; `prepare` runs before it, untimed."""

    name: str
    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], object] = lambda: None
    code: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Cost of one whole process and its children, from before its start until it is reaped."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


Samples = Mapping[str, Sequence[Sample]]


class Failed(Exception):
    """A contestant exited with an unexpected code, so its time means nothing."""


# Measuring


def race(contestants: Sequence[Contestant], rounds: int, *, warm_up: bool = True) -> Samples:
    """Run all contestants in turns and return their samples by name, without the warm-up round."""
    samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds + warm_up):
        for contestant in contestants:
            sample = measure(contestant)
            if number >= warm_up:
                samples[contestant.name].append(sample)
    return samples


def measure(contestant: Contestant) -> Sample:
    """Run a contestant once and return its cost."""
    contestant.prepare()
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            contestant.argv,
            cwd=contestant.folder,
            env={**clean_environment(), **contestant.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != contestant.code:
            errors.seek(0)
            text = errors.read().decode(errors="replace")
            raise Failed(f"{contestant.name}: exit {process.returncode}\n{text}")
    return Sample(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / maxrss_per_mib(),
    )


def clean_environment() -> dict[str, str]:
    """The environment of this process without variables that affect Python, make or rvrun."""
    prefixes = ("PYTHON", "MAKE", "MFLAGS", "GNUMAKE", "RVRUN", "XDG_CONFIG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, "XDG_CONFIG_HOME": os.devnull}


def maxrss_per_mib() -> int:
    """Units of `ru_maxrss` per MiB: it is in KiB on Linux and in bytes on macOS."""
    return 1024 * (1024 if sys.platform == "darwin" else 1)


def own_peak_mib() -> float:
    """Peak memory of this process: a lower bound of what is measured for a child.

    On Linux `ru_maxrss` keeps the size that was resident before exec (getrusage(2)).
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / maxrss_per_mib()


# Reporting


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table; all columns except the first are right-aligned numbers."""
    cells = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (cells[0], rule, *cells[1:]):
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print(f"| {' | '.join([first.strip().ljust(widths[0]), *rest])} |")
    print(flush=True)


def print_samples(samples: Samples, reference: str, *, memory: bool = False) -> None:
    """Print a row per contestant, with its ratio to `reference`."""
    memory_heading = ["peak memory"] if memory else []
    rows = [
        [
            name,
            duration(median(samples, name)),
            duration(min(sample.seconds for sample in runs)),
            duration(statistics.median(sample.cpu_seconds for sample in runs)),
            *([peak(runs)] if memory else []),
            f"{ratio(samples, name, reference):.2f}",
            f"{cpu_ratio(samples, name, reference):.2f}",
        ]
        for name, runs in samples.items()
    ]
    print_table(["what", "median", "min", "CPU", *memory_heading, "ratio", "CPU ratio"], rows)


def peak(runs: Sequence[Sample]) -> str:
    largest, own = max(sample.peak_mib for sample in runs), own_peak_mib()
    return f"{largest:.0f} MiB" if largest > own else f"< {own:.0f} MiB"


def median(samples: Samples, name: str) -> float:
    """Median wall time, in seconds."""
    return statistics.median(sample.seconds for sample in samples[name])


def ratio(samples: Samples, name: str, reference: str) -> float:
    """Median over all rounds of the wall time of `name` divided by that of `reference`."""
    pairs = zip(samples[name], samples[reference], strict=True)
    return statistics.median(one.seconds / other.seconds for one, other in pairs)


def cpu_ratio(samples: Samples, name: str, reference: str) -> float:
    """Like `ratio`, for CPU time, which other work on the machine disturbs less."""
    pairs = zip(samples[name], samples[reference], strict=True)
    return statistics.median(one.cpu_seconds / max(other.cpu_seconds, 1e-3) for one, other in pairs)


def duration(seconds: float) -> str:
    """Format a duration: `23.4 ms`, `1.23 s`."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def print_goal(goal: str, measured: str, *, achieved: bool) -> None:
    """Print a goal, the measured figure, and whether the goal is achieved."""
    print(
        f"Goal: {goal}. Measured: {measured}, {'achieved' if achieved else 'MISSED'}.\n", flush=True
    )


def print_machine() -> None:
    """Print the machine and the versions of what was measured on it."""
    version = subprocess.run(
        ["make", "--version"],  # noqa: S607 - the make on PATH was measured
        capture_output=True,
        text=True,
        check=True,
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = [
        f"{cores} cores",
        f"{platform.system()} {platform.machine()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        version.stdout.partition("\n")[0],
        f"rvrun {rvrun.__version__}",
        f"load average before: {os.getloadavg()[0]:.1f}",
    ]
    print(f"{', '.join(facts)}.\n")
    if is_editable():
        print(
            "**This is an editable install of rvrun.** Every Python process of this environment "
            "then loads setuptools' finder, bare Python too, so ratios to bare Python are smaller "
            "than for users. Install without `-e` for figures that you publish.\n",
            flush=True,
        )


def is_editable() -> bool:
    """Whether rvrun is imported from outside the environment."""
    return not Path(rvrun.__file__).resolve().is_relative_to(Path(sys.prefix).resolve())


# Part a, compiling and rendering


def part_a(work: Path, rounds: int) -> None:
    """Measure time and peak memory of a whole `rvrun render local`, by number of splits."""
    counts = (1, 100, 10_000, 500_000, 1_000_000)
    write_pipeline(work)
    contestants = [
        bare_python(work),
        Contestant(name="rvrun --help", argv=[RVRUN, "--help"], folder=work),
        *(render_contestant(work, count) for count in counts),
    ]
    samples = race(contestants, rounds)
    print_samples(samples, "python -c pass", memory=True)
    print_table(
        ["splits each", "Makefile", "plan.json", "CPU per target beyond N = 1"],
        (render_row(work, count, samples) for count in counts),
    )
    print_render_goals(samples)


def render_name(count: int) -> str:
    return f"rvrun render, 2 x {count:,}"


def render_contestant(work: Path, count: int) -> Contestant:
    out = work / f"render-{count}"
    return Contestant(
        name=render_name(count),
        argv=[RVRUN, "render", "local", "pipeline.py", "--splits", str(count), "--out", out.name],
        folder=work,
        prepare=lambda: remove(out),
    )


def render_row(work: Path, count: int, samples: Samples) -> list[str]:
    sizes = [(work / f"render-{count}" / name).stat().st_size for name in ("Makefile", "plan.json")]
    per_target = beyond_fixed(samples, count) / (2 * count)
    shown = f"{per_target * 1e6:.2f} us" if count >= 500_000 else "-"
    return [f"{count:,}", *(f"{size / 1000:,.1f} kB" for size in sizes), shown]


def beyond_fixed(samples: Samples, count: int) -> float:
    """CPU seconds that `count` splits take in addition to those of one split."""
    pairs = zip(samples[render_name(count)], samples[render_name(1)], strict=True)
    return statistics.median(many.cpu_seconds - one.cpu_seconds for many, one in pairs)


def print_render_goals(samples: Samples) -> None:
    seconds = median(samples, render_name(10_000))
    print_goal("under 0.5 s at N = 10,000", duration(seconds), achieved=seconds < 0.5)
    mib = max(sample.peak_mib for sample in samples[render_name(500_000)])
    print_goal("under 300 MB at N = 500,000", f"{mib:.0f} MiB", achieved=mib * 1.048576 < 300)
    growth = beyond_fixed(samples, 1_000_000) / beyond_fixed(samples, 500_000)
    print_goal(
        "linear (twice as many targets take at most 2.5 x the CPU time beyond that of N = 1)",
        f"N = 1,000,000 takes {growth:.2f} x that of 500,000",
        achieved=growth <= 2.5,
    )


# Part b, make reading the Makefile


def part_b(work: Path, rounds: int) -> None:
    """Measure `make -n` with nothing done, and `make -q` with everything up to date."""
    write_pipeline(work)
    for count in (1_000, 10_000, 100_000):
        folders = {"handwritten": work / f"handwritten-{count}", "rvrun": rendered(work, count)}
        write_handwritten(folders["handwritten"], count)
        if count == 1_000:
            folders["all pairs"] = work / f"pairs-{count}"
            write_all_pairs(folders["all pairs"], count)
        print(f"### 2 x {count:,} targets\n")
        for name, folder in folders.items():
            print(f"- {name}: a Makefile of {(folder / 'Makefile').stat().st_size / 1000:,.1f} kB")
        print()
        fewer = max(rounds * 1_000 // count, 3)
        race_make("make -n, nothing done", folders, ["make", "-n", "all"], fewer)
        for folder in folders.values():
            touch_stamps(folder, count)
        race_make("make -q, all up to date", folders, ["make", "-q", "all"], fewer)


def race_make(title: str, folders: Mapping[str, Path], argv: Sequence[str], rounds: int) -> None:
    contestants = [
        Contestant(name=f"{title}: {name}", argv=argv, folder=folder)
        for name, folder in folders.items()
    ]
    print_samples(race(contestants, rounds), f"{title}: handwritten", memory=True)


def rendered(work: Path, count: int) -> Path:
    """Render a run directory with two commands of `count` splits, and return it."""
    contestant = render_contestant(work, count)
    measure(contestant)
    return work / f"render-{count}"


def recipe(command: str, count: int) -> str:
    words = f"run_command config/noop.json {command} --split-ind $* --num-splits {count}"
    return f"\tcd .. && exec rvrun {words}\n\t@touch $@\n"


def write_handwritten(folder: Path, count: int) -> None:
    """Write the simplest Makefile for the same targets: static pattern rules and one join."""
    folder.mkdir()
    indices = " ".join(str(index) for index in range(count))
    with (folder / "Makefile").open("w") as makefile:
        makefile.write(f"all: done/second.all\n\nsplits := {indices}\n")
        for command, needed in (("first", ""), ("second", " done/first.all")):
            stamps = f"done/{command}"
            makefile.write(f"\n{command} := $(addprefix {stamps}/,$(splits))\n")
            makefile.write(f"$({command}): {stamps}/%:{needed}\n{recipe(command, count)}")
            makefile.write(f"{stamps}.all: $({command})\n\t@touch $@\n")


def write_all_pairs(folder: Path, count: int) -> None:
    """Write the Makefile of a naive script: one prerequisite per edge, `count` x `count` edges."""
    folder.mkdir()
    names = {c: [f"done/{c}/{index}" for index in range(count)] for c in ("first", "second")}
    firsts = " ".join(names["first"])
    with (folder / "Makefile").open("w") as makefile:
        makefile.write(f"all: {' '.join(names['second'])}\n")
        for command, needed in (("first", ""), ("second", f" {firsts}")):
            for index, name in enumerate(names[command]):
                line = recipe(command, count).replace("$*", str(index))
                makefile.write(f"{name}:{needed}\n{line}")


def touch_stamps(folder: Path, count: int) -> None:
    """Create the stamps of all kinds of Makefile, each newer than the stamps it needs."""
    now = time.time_ns()
    for age, command in ((20, "first"), (10, "second")):
        for stamps in (f"done/{command}", f"done/noop/{command}.{count}"):
            (folder / stamps).mkdir(parents=True)
            for index in range(count):
                touch(f"{folder / stamps}/{index}", now - age * 10**9)
        for join in (f"done/{command}.all", f"done/noop/{command}.all"):
            touch(str(folder / join), now - (age - 5) * 10**9)
    for config in folder.glob("config/*.json"):
        os.utime(config, ns=(now - 60 * 10**9,) * 2)


def touch(path: str, mtime_ns: int) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
    os.utime(path, ns=(mtime_ns, mtime_ns))


# Part c, targets that do nothing


def part_c(work: Path, rounds: int) -> None:
    """Measure 2 x 1,000 targets under make -j2, by the program that runs a target."""
    write_pipeline(work)
    folder = rendered(work, 1_000)
    programs = {
        "/bin/true": shutil.which("true") or "true",
        "python -c pass": f"{PYTHON} -c pass",
        "rvrun (console script)": RVRUN,
    }
    contestants = [
        *(run_contestant(folder, name, program) for name, program in programs.items()),
        whole_run(work),
    ]
    samples = race(contestants, rounds, warm_up=False)
    for reference in ("/bin/true", "python -c pass"):
        print(f"Ratio to {reference}:\n")
        print_samples(samples, f"make -j2, {reference}")
    print(f"Per target: {', '.join(per_target(samples))}.\n")


def run_contestant(folder: Path, name: str, program: str) -> Contestant:
    return Contestant(
        name=f"make -j2, {name}",
        argv=["make", "-j2", f"RVRUN={program}", "all"],
        folder=folder,
        prepare=lambda: forget(folder),
    )


def whole_run(work: Path) -> Contestant:
    """The whole command: compile, render, make, workers with records and logs, summary."""
    out = work / "whole"
    return Contestant(
        name="rvrun run local -j2",
        argv=[RVRUN, "run", "local", "pipeline.py", "-s", "1000", "-j2", "--out", out.name],
        folder=work,
        prepare=lambda: remove(out),
    )


def per_target(samples: Samples) -> Iterator[str]:
    for name in samples:
        yield f"{name} {duration(median(samples, name) / 2_000)}"


# Part d, startup


def part_d(work: Path, rounds: int) -> None:
    """Measure the process that starts for every target, and a Python that does nothing."""
    write_pipeline(work)
    write_pipeline(work, "with_attrs", imports="import attrs\n")
    plain, with_attrs = rendered(work, 1), saved(work, "with_attrs")
    module = [PYTHON, "-P", "-m", "rvrun"]
    contestants = [
        bare_python(work),
        Contestant(name="python -I -c pass", argv=[PYTHON, "-I", "-c", "pass"], folder=work),
        Contestant(name="rvrun --help", argv=[RVRUN, "--help"], folder=work),
        worker(work, "rvrun run_command", [RVRUN], plain),
        worker(work, "python -P -m rvrun run_command", module, plain, RVRUN_LOGS="1"),
        Contestant(
            name="python -c 'import attrs'", argv=[PYTHON, "-c", "import attrs"], folder=work
        ),
        worker(work, "rvrun run_command, a pipeline that imports attrs", [RVRUN], with_attrs),
    ]
    samples = race(contestants, rounds)
    print_samples(samples, "python -c pass")
    for name in ("rvrun run_command", "python -P -m rvrun run_command"):
        times = ratio(samples, name, "python -c pass")
        print_goal(f"{name} at most 2.5 x bare Python", f"{times:.2f}", achieved=times <= 2.5)


def part_e(work: Path, rounds: int) -> None:
    """Measure `rvrun diff` of two plans, by their number of targets."""
    write_pipeline(work)
    few, many = "two plans of 4 targets", "two plans of 1,000,000 targets"
    pairs = {few: (1, 2), many: (500_000, 499_999)}
    contestants = []
    for name, counts in pairs.items():
        plans = [str(rendered(work, count) / "plan.json") for count in counts]
        argv = [RVRUN, "diff", *plans]
        contestants.append(Contestant(name=name, argv=argv, folder=work, code=1))
    samples = race(contestants, rounds)
    print_samples(samples, few, memory=True)
    beyond = median(samples, many) - median(samples, few)
    measured = f"{1000 * beyond:.1f} ms"
    print_goal(
        "under 0.3 s in addition to startup at 1,000,000 targets", measured, achieved=beyond < 0.3
    )


PIPELINES, COMMANDS, LATENCY_SECONDS = 100, 6, 0.1
SIX = """\
import rvrun


class Six(rvrun.Pipeline):
    commands = ("analyze", "chip", "train", "predict", "eval", "bundle")

    def command(self):
        pass

    analyze = chip = train = predict = eval = bundle = command


class SixConfig(rvrun.PipelineConfig):
    def build(self):
        return Six(self)


def get_configs(runner):
    return [SixConfig(name=f"p{i}", root_uri=f"s3://bucket/p{i}") for i in range(100)]
"""
#: Submits like Raster Vision: one call after another.
ONE_BY_ONE = """\
import glob, json, boto3

batch = boto3.client("batch")
for path in sorted(glob.glob("six/batch/[0-9]*.json")):
    request = json.load(open(path))
    request.pop("dependsOn", None)
    batch.submit_job(**request)
"""


def part_f(work: Path, rounds: int) -> None:
    """Measure the submission of 100 pipelines of 6 commands, and count the calls it makes."""
    (work / "hundred.py").write_text(SIX)
    (work / "rvrun.toml").write_text('[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n')
    ours, theirs = "rvrun run batch", "the same requests, one after another"
    with Endpoint(LATENCY_SECONDS) as endpoint:
        rvrun_argv = [RVRUN, "run", "batch", "hundred.py", "--out", "six"]
        samples = race(
            [
                batch_contestant(ours, rvrun_argv, work, endpoint),
                batch_contestant(theirs, [PYTHON, "-c", ONE_BY_ONE], work, endpoint),
            ],
            rounds,
            warm_up=False,
        )
        print_samples(samples, theirs)
        calls = {name: count // rounds for name, count in sorted(endpoint.calls.items())}
    listed = ", ".join(f"{count:,} {name}" for name, count in calls.items())
    jobs = PIPELINES * COMMANDS
    print(f"Calls per round, both contestants together: {listed}.\n")
    seconds = median(samples, ours)
    print_goal(f"{jobs} jobs in under 30 s", f"{seconds:.1f} s", achieved=seconds < 30)


def batch_contestant(name: str, argv: Sequence[str], work: Path, endpoint: Endpoint) -> Contestant:
    return Contestant(
        name=name,
        argv=argv,
        folder=work,
        environment=endpoint.environment,
        prepare=lambda: remove(work / "six" / "submitted"),
    )


def worker(
    work: Path, name: str, program: Sequence[str], run_dir: Path, **environment: str
) -> Contestant:
    """A target as make starts it: it writes its record in the run directory."""
    config = f"{run_dir.name}/config/noop.json"
    split = ["--split-ind", "0", "--num-splits", "1"]
    return Contestant(
        name=name,
        argv=[*program, "run_command", config, "first", *split],
        folder=work,
        environment={"RVRUN_RUN_DIR": str(run_dir), **environment},
        prepare=lambda: forget(run_dir),
    )


# Shared by parts


def bare_python(work: Path) -> Contestant:
    return Contestant(name="python -c pass", argv=[PYTHON, "-c", "pass"], folder=work)


def write_pipeline(work: Path, name: str = "pipeline", imports: str = "") -> None:
    (work / f"{name}.py").write_text(PIPELINE.format(imports=imports))


def saved(work: Path, name: str) -> Path:
    """Render a run directory for the pipeline in `name`.py, and return it."""
    argv = [RVRUN, "render", "local", f"{name}.py", "--out", f"render-{name}"]
    measure(Contestant(name=name, argv=argv, folder=work))
    return work / f"render-{name}"


def forget(run_dir: Path) -> None:
    """Remove stamps, records and logs of a run directory, but keep the rendered files."""
    for name in ("done", "records", "logs"):
        remove(run_dir / name)


def remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Part:
    """A part of the benchmark and its default number of rounds."""

    run: Callable[[Path, int], None]
    title: str
    rounds: int


PARTS = {
    "a": Part(part_a, "(a) compiling and rendering", 15),
    "b": Part(part_b, "(b) make reading the Makefile", 20),
    "c": Part(part_c, "(c) 2 x 1,000 targets that do nothing", 3),
    "d": Part(part_d, "(d) startup", 40),
    "e": Part(part_e, "(e) comparing plans", 15),
    "f": Part(part_f, "(f) submitting 600 jobs to an endpoint that answers in 100 ms", 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="a, b, c, d, e, f (default: all)")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="rounds (default: depends on the part)"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - PARTS.keys())
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    print_machine()
    for name in options.parts or PARTS:
        part = PARTS[name]
        rounds = options.rounds or part.rounds
        print(f"## {part.title}\n\nRounds: {rounds}.\n", flush=True)
        with tempfile.TemporaryDirectory(prefix="rvrun-benchmark-") as work:
            part.run(Path(work).resolve(), rounds)


if __name__ == "__main__":
    main()
