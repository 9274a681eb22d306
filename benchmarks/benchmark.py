"""What rvrun costs in time, memory and size, beside what it is to be compared with.

    python benchmarks/benchmark.py        all parts
    python benchmarks/benchmark.py a d    these

    a   compile and render two split commands, N splits each
    b   what make needs to read the Makefile, against a hand-written floor
    c   2 x 1,000 targets that do nothing, under make -j2
    d   how long rvrun takes to start
    e   rvrun diff of two plans of 1,000,000 targets
    f   rvrun run batch of 600 jobs against an endpoint that answers in 100 ms

Prints Markdown. Run it with the interpreter of the environment that rvrun is installed in.
Within a part the contestants take turns (A B C A B C ...), so that noise of the machine hits all
alike, and a ratio is the median of the ratios within each round.
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
    """A command line to be timed, which ends with `code`; `prepare` is called before, untimed."""

    name: str
    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], object] = lambda: None
    code: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One whole process, from before it is started until it is reaped, with its children."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


Samples = Mapping[str, Sequence[Sample]]


class Failed(Exception):
    """A contestant that did not do its work, so that its time means nothing."""


# Measuring


def race(contestants: Sequence[Contestant], rounds: int, *, warm_up: bool = True) -> Samples:
    """Samples of each contestant by name, all taking turns; the warm-up round is thrown away."""
    samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds + warm_up):
        for contestant in contestants:
            sample = measure(contestant)
            if number >= warm_up:
                samples[contestant.name].append(sample)
    return samples


def measure(contestant: Contestant) -> Sample:
    """Run it once."""
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
    """This one's, without what changes how Python, make or rvrun behave."""
    changing = ("PYTHON", "MAKE", "MFLAGS", "GNUMAKE", "RVRUN", "XDG_CONFIG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(changing)}
    return {**kept, "XDG_CONFIG_HOME": os.devnull}


def maxrss_per_mib() -> int:
    """`ru_maxrss` is in KiB, on macOS in bytes."""
    return 1024 * (1024 if sys.platform == "darwin" else 1)


def own_peak_mib() -> float:
    """This process's own peak: a child seems to have used at least that.

    Linux keeps what was resident before exec in `ru_maxrss` (getrusage(2)).
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / maxrss_per_mib()


# Telling


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A Markdown table; all columns but the first are numbers."""
    cells = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (cells[0], rule, *cells[1:]):
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print(f"| {' | '.join([first.strip().ljust(widths[0]), *rest])} |")
    print(flush=True)


def print_samples(samples: Samples, reference: str, *, memory: bool = False) -> None:
    """A row each contestant, with its ratio to `reference`."""
    more = ["peak memory"] if memory else []
    rows = [
        [
            name,
            duration(median(samples, name)),
            duration(min(sample.seconds for sample in taken)),
            duration(statistics.median(sample.cpu_seconds for sample in taken)),
            *([peak(taken)] if memory else []),
            f"{ratio(samples, name, reference):.2f}",
            f"{cpu_ratio(samples, name, reference):.2f}",
        ]
        for name, taken in samples.items()
    ]
    print_table(["what", "median", "min", "CPU", *more, "ratio", "CPU ratio"], rows)


def peak(taken: Sequence[Sample]) -> str:
    largest, floor = max(sample.peak_mib for sample in taken), own_peak_mib()
    return f"{largest:.0f} MiB" if largest > floor else f"< {floor:.0f} MiB"


def median(samples: Samples, name: str) -> float:
    """The median wall time, in seconds."""
    return statistics.median(sample.seconds for sample in samples[name])


def ratio(samples: Samples, name: str, reference: str) -> float:
    """The median over all rounds of how much longer `name` took than `reference` in that round."""
    pairs = zip(samples[name], samples[reference], strict=True)
    return statistics.median(one.seconds / other.seconds for one, other in pairs)


def cpu_ratio(samples: Samples, name: str, reference: str) -> float:
    """The same of CPU time, which other work on the machine disturbs less."""
    pairs = zip(samples[name], samples[reference], strict=True)
    return statistics.median(one.cpu_seconds / max(other.cpu_seconds, 1e-3) for one, other in pairs)


def duration(seconds: float) -> str:
    """`23.4 ms`, `1.23 s`."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def print_aim(aim: str, seen: str, *, met: bool) -> None:
    """Whether a figure is as good as was wanted."""
    print(f"Aim: {aim}. Seen: {seen}, {'met' if met else 'MISSED'}.\n", flush=True)


def print_facts() -> None:
    """The machine, and what was measured on it."""
    version = subprocess.run(["make", "--version"], capture_output=True, text=True, check=True)
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
            "**rvrun is installed editable here:** setuptools' finder then loads with every "
            "Python of this environment, bare ones too, and ratios to bare Python seem smaller "
            "than where users install it. Install it without `-e` for figures to quote.\n",
            flush=True,
        )


def is_editable() -> bool:
    """Whether rvrun is imported from elsewhere than where packages are installed."""
    return not Path(rvrun.__file__).resolve().is_relative_to(Path(sys.prefix).resolve())


# Part a, compiling and rendering


def part_a(work: Path, rounds: int) -> None:
    """Whole-process time and peak memory of `rvrun render local`, by number of splits."""
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
    print_render_aims(samples)


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
    each = beyond_fixed(samples, count) / (2 * count)
    shown = f"{each * 1e6:.2f} us" if count >= 500_000 else "-"
    return [f"{count:,}", *(f"{size / 1000:,.1f} kB" for size in sizes), shown]


def beyond_fixed(samples: Samples, count: int) -> float:
    """The CPU seconds that `count` splits take more than one."""
    pairs = zip(samples[render_name(count)], samples[render_name(1)], strict=True)
    return statistics.median(many.cpu_seconds - one.cpu_seconds for many, one in pairs)


def print_render_aims(samples: Samples) -> None:
    seconds = median(samples, render_name(10_000))
    print_aim("under 0.5 s at N = 10,000", duration(seconds), met=seconds < 0.5)
    mib = max(sample.peak_mib for sample in samples[render_name(500_000)])
    print_aim("under 300 MB at N = 500,000", f"{mib:.0f} MiB", met=mib * 1.048576 < 300)
    growth = beyond_fixed(samples, 1_000_000) / beyond_fixed(samples, 500_000)
    print_aim(
        "linear (twice as many take at most 2.5 x the CPU time beyond that of N = 1)",
        f"N = 1,000,000 takes {growth:.2f} x that of 500,000",
        met=growth <= 2.5,
    )


# Part b, make reading the Makefile


def part_b(work: Path, rounds: int) -> None:
    """`make -n` with all to do, and make with all up to date."""
    write_pipeline(work)
    for count in (1_000, 10_000, 100_000):
        folders = {"floor": work / f"floor-{count}", "rvrun": rendered(work, count)}
        write_floor(folders["floor"], count)
        if count == 1_000:
            folders["all pairs"] = work / f"pairs-{count}"
            write_all_pairs(folders["all pairs"], count)
        print(f"### 2 x {count:,} targets\n")
        for name, folder in folders.items():
            print(f"- {name}: a Makefile of {(folder / 'Makefile').stat().st_size / 1000:,.1f} kB")
        print()
        fewer = max(rounds * 1_000 // count, 3)
        race_make("make -n, all to do", folders, ["make", "-n", "all"], fewer)
        for folder in folders.values():
            touch_stamps(folder, count)
        race_make("make -q, all up to date", folders, ["make", "-q", "all"], fewer)


def race_make(title: str, folders: Mapping[str, Path], argv: Sequence[str], rounds: int) -> None:
    contestants = [
        Contestant(name=f"{title}: {name}", argv=argv, folder=folder)
        for name, folder in folders.items()
    ]
    print_samples(race(contestants, rounds), f"{title}: floor", memory=True)


def rendered(work: Path, count: int) -> Path:
    """A run directory for two commands of `count` splits."""
    contestant = render_contestant(work, count)
    measure(contestant)
    return work / f"render-{count}"


def recipe(command: str, count: int) -> str:
    words = f"run_command config/noop.json {command} --split-ind $* --num-splits {count}"
    return f"\tcd .. && exec rvrun {words}\n\t@touch $@\n"


def write_floor(folder: Path, count: int) -> None:
    """What a person would write for the same targets: static patterns, a join, nothing more."""
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
    """What a script would write that knows targets and edges only: count x count of them."""
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
    """All stamps, as each kind of Makefile names them, each later than those it needs."""
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
    """2 x 1,000 targets under make -j2, by what runs each."""
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
    """All of it: compiling, rendering, make, workers with records and logs, the summary."""
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


# Part d, starting up


def part_d(work: Path, rounds: int) -> None:
    """What starts for every target, against a Python that does nothing."""
    write_pipeline(work)
    write_pipeline(work, "with_attrs", imports="import attrs\n")
    short, told = rendered(work, 1), saved(work, "with_attrs")
    module = [PYTHON, "-P", "-m", "rvrun"]
    contestants = [
        bare_python(work),
        Contestant(name="python -I -c pass", argv=[PYTHON, "-I", "-c", "pass"], folder=work),
        Contestant(name="rvrun --help", argv=[RVRUN, "--help"], folder=work),
        worker(work, "rvrun run_command", [RVRUN], short),
        worker(work, "python -P -m rvrun run_command", module, short, RVRUN_LOGS="1"),
        Contestant(
            name="python -c 'import attrs'", argv=[PYTHON, "-c", "import attrs"], folder=work
        ),
        worker(work, "rvrun run_command, a pipeline that imports attrs", [RVRUN], told),
    ]
    samples = race(contestants, rounds)
    print_samples(samples, "python -c pass")
    for name in ("rvrun run_command", "python -P -m rvrun run_command"):
        times = ratio(samples, name, "python -c pass")
        print_aim(f"{name} at most 2.5 x bare Python", f"{times:.2f}", met=times <= 2.5)


def part_e(work: Path, rounds: int) -> None:
    """Two plans compared, by their number of targets."""
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
    seen = f"{1000 * beyond:.1f} ms"
    print_aim("under 0.3 s beyond start-up at 1,000,000 targets", seen, met=beyond < 0.3)


PIPELINES, COMMANDS, ANSWER = 100, 6, 0.1
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
#: As Raster Vision submits: a call when the one before has been answered.
ONE_BY_ONE = """\
import glob, json, boto3

batch = boto3.client("batch")
for path in sorted(glob.glob("six/batch/[0-9]*.json")):
    request = json.load(open(path))
    request.pop("dependsOn", None)
    batch.submit_job(**request)
"""


def part_f(work: Path, rounds: int) -> None:
    """Submitting 100 pipelines of 6 commands: whole processes, and the calls that they make."""
    (work / "hundred.py").write_text(SIX)
    (work / "rvrun.toml").write_text('[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n')
    ours, theirs = "rvrun run batch", "the same requests, one after the other"
    with Endpoint(ANSWER) as endpoint:
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
        calls = {what: many // rounds for what, many in sorted(endpoint.calls.items())}
    told = ", ".join(f"{many:,} {what}" for what, many in calls.items())
    jobs = PIPELINES * COMMANDS
    print(f"Calls of one round, of both contestants together: {told}.\n")
    seconds = median(samples, ours)
    print_aim(f"{jobs} jobs in under 30 s", f"{seconds:.1f} s", met=seconds < 30)


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
    """A target as make starts it: it leaves its record in the run directory."""
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
    """The run directory of another pipeline."""
    argv = [RVRUN, "render", "local", f"{name}.py", "--out", f"render-{name}"]
    measure(Contestant(name=name, argv=argv, folder=work))
    return work / f"render-{name}"


def forget(run_dir: Path) -> None:
    """What was done there; rendered files stay."""
    for name in ("done", "records", "logs"):
        remove(run_dir / name)


def remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Part:
    """A part of the benchmark and how many rounds it takes where none are given."""

    run: Callable[[Path, int], None]
    title: str
    rounds: int


PARTS = {
    "a": Part(part_a, "(a) compiling and rendering", 15),
    "b": Part(part_b, "(b) make reading the Makefile", 20),
    "c": Part(part_c, "(c) 2 x 1,000 targets that do nothing", 3),
    "d": Part(part_d, "(d) starting up", 40),
    "e": Part(part_e, "(e) comparing plans", 15),
    "f": Part(part_f, "(f) submitting 600 jobs to an endpoint that answers in 100 ms", 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="a, b, c, d, e, f; all if none is given"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of each part's own")
    words = parser.parse_args()
    unknown = sorted(set(words.parts) - PARTS.keys())
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    print_facts()
    for name in words.parts or PARTS:
        part = PARTS[name]
        rounds = words.rounds or part.rounds
        print(f"## {part.title}\n\nRounds: {rounds}.\n", flush=True)
        with tempfile.TemporaryDirectory(prefix="rvrun-benchmark-") as work:
            part.run(Path(work).resolve(), rounds)


if __name__ == "__main__":
    main()
