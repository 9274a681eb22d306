"""The options of sbatch that a stage's settings give, and what is wrong with them. Pure.

Each job's settings are those of `[slurm]`, overridden by its pipeline's `resources`, overridden by
the sections `[slurm.commands.GLOB]` that match.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator

import attrs

from rvrun.model import Resources, Stage
from rvrun.runners.slurm.settings import SlurmCommandSettings, SlurmSettings
from rvrun.secret_marks import mark
from rvrun.settings.overrides import matches, overridden

#: `30`, `30:00`, `2:00:00`, `1-12`, `1-12:00`, `1-12:00:00` (sbatch(1), `--time`).
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)
#: Seconds that are added to time limits, in which targets start.
START_SECONDS = 60
_UNLIMITED = ("UNLIMITED", "INFINITE")
#: What sbatch accepts as a name of a partition, account or quality of service.
_NAME = re.compile(r"[\w.,@+-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Options that rvrun sets itself, by their long and their short names.
OWN = {
    "--job-name": "-J",
    "--comment": "",
    "--array": "-a",
    "--dependency": "-d",
    "--kill-on-invalid-dep": "",
    "--output": "-o",
    "--chdir": "-D",
    "--wrap": "",
    "--parsable": "",
    "--signal": "",
    "--requeue": "",
    "--no-requeue": "",
    "--wait": "-W",
    "--test-only": "",
}


def requested(name: str, stage: Stage, settings: SlurmSettings) -> SlurmCommandSettings:
    """Return the settings of a stage called `name` as they are declared for its command."""
    fields = [field.name for field in attrs.fields(SlurmCommandSettings)]
    base = SlurmCommandSettings(**{field: getattr(settings, field) for field in fields})
    base = attrs.evolve(
        base,
        partition=(settings.gpu_partition if stage.gpu else None) or settings.partition,
        gpus=(settings.gpus or (None if settings.gres else 1)) if stage.gpu else None,
    )
    own = overridden(_with_resources(base, stage.resources), settings.commands, name)
    # Each section adds options, where other settings override.
    sections = [value for glob, value in settings.commands.items() if matches(glob, name)]
    added = [option for section in sections for option in section.sbatch]
    return attrs.evolve(own, sbatch=(*settings.sbatch, *added))


def job_settings(name: str, stage: Stage, settings: SlurmSettings) -> SlurmCommandSettings:
    """Return the settings of the job of a stage called `name`.

    `pack` and `parallel` are at most what its number of splits can use, and `time` allows each
    target the limit that its command declares, unless `[slurm.commands]` sets another.
    """
    own = requested(name, stage, settings)
    pack = min(own.pack or 1, stage.num_splits or 1)
    own = attrs.evolve(own, pack=pack, parallel=min(own.parallel or 1, pack))
    if stage.resources.timeout_seconds and own.time is None:
        return attrs.evolve(own, time=as_time(_seconds(own, stage.resources, settings)))
    return own


def _with_resources(base: SlurmCommandSettings, resources: Resources) -> SlurmCommandSettings:
    """Map what a command requires onto settings.

    Its job queue and job definition are those of another service, such as Raster Vision's. Its
    image replaces a container, but jobs without one stay outside of containers.
    """
    changes = {
        "cpus": resources.vcpus,
        "memory_mib": resources.memory_mib,
        "gpus": resources.gpus,
        "container": resources.image if base.container else None,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    own = attrs.evolve(base, **given)  # type: ignore[arg-type]
    # The time limit of a target is not that of a job, which depends on what sections override.
    return attrs.evolve(own, time=None) if resources.timeout_seconds else own


def _seconds(own: SlurmCommandSettings, resources: Resources, settings: SlurmSettings) -> int:
    """The time limit of a job whose targets have one: each of them must reach its own first."""
    attempts = 1 + (resources.retries or 0)
    turns = math.ceil((own.pack or 1) / (own.parallel or 1))
    needed = (resources.timeout_seconds or 0) * attempts * turns
    # Slurm sends SIGTERM `signal_seconds` before the limit, up to a minute early, and rounds the
    # limit up to minutes (sbatch(1)).
    return math.ceil((needed + settings.signal_seconds + START_SECONDS + 60) / 60) * 60


def as_time(seconds: int) -> str:
    """Format a time limit: `1:00:00`."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def minutes_of(time: str) -> float | None:
    """Parse a time limit; return its minutes, infinity if unlimited, None if it is not valid."""
    if time.upper() in _UNLIMITED:
        return math.inf
    if (match := _TIME.fullmatch(time)) is None:
        return None
    days, *rest = match.groups()
    numbers = [int(number) for number in rest if number is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
        return int(days) * 1440 + hours * 60 + minutes + seconds / 60
    if len(numbers) == 3:
        return numbers[0] * 60 + numbers[1] + numbers[2] / 60
    return numbers[0] + (numbers[1] / 60 if len(numbers) == 2 else 0)


def sbatch_options(own: SlurmCommandSettings, settings: SlurmSettings) -> list[str]:
    """Return the options of sbatch for a job with these settings, as lines of its script."""
    parallel = own.parallel or 1
    # Without a request, a job gets one CPU, and the cluster's memory for each CPU.
    cpus = (own.cpus or 1) * parallel
    values = {
        "partition": own.partition,
        "account": own.account,
        "qos": own.qos,
        "constraint": f'"{own.constraint}"' if own.constraint else None,
        "time": own.time,
        "ntasks": 1,
        "cpus-per-task": cpus,
        "mem": f"{own.memory_mib * parallel}M" if own.memory_mib else None,
        "gres": gres_of(own),
        # Also without a limit of its own, because the partition may have one.
        "signal": f"B:TERM@{settings.signal_seconds}",
    }
    lines = [f"--{name}={value}" for name, value in values.items() if value is not None]
    is_requeued = settings.requeue or (own.attempts or 1) > 1
    return [*lines, "--requeue" if is_requeued else "--no-requeue", *own.sbatch]


def gres_of(own: SlurmCommandSettings) -> str | None:
    """Return the generic resources that a job with these settings requests."""
    return own.gres or (f"gpu:{own.gpus * (own.parallel or 1)}" if own.gpus else None)


def problems(name: str, own: SlurmCommandSettings, settings: SlurmSettings) -> Iterator[str]:
    """Yield a sentence for each setting of the stage `name` that Slurm would refuse."""
    for key in ("partition", "account", "qos"):
        value = getattr(own, key)
        if value is not None and not _NAME.fullmatch(value):
            yield f"{name}: `{key}` must be a name, got {value!r}; correct `slurm.{key}`"
    for key in ("constraint", "gres", "container"):
        value = getattr(own, key)
        if value == "":
            yield f"{name}: `{key}` must not be empty; correct or remove `slurm.{key}`"
        elif value is not None and any(char in value for char in "\"'`$\\\n"):
            yield f"{name}: `{key}` must not have quotes, `$` or backslashes, got {value!r}"
    if own.gres and re.search(r"\s|#", own.gres):
        yield f"{name}: `gres` must not have spaces or `#`, got {own.gres!r}; correct `slurm.gres`"
    yield from _time_problems(name, own, settings)
    if own.parallel and own.parallel > (own.pack or 1):
        yield (
            f"{name}: `parallel` must be at most `pack`, {own.pack or 1}, got {own.parallel}; "
            "set `slurm.pack`, or lower `slurm.parallel`"
        )
    for option in own.sbatch:
        yield from _option_problems(name, option)


def _time_problems(name: str, own: SlurmCommandSettings, settings: SlurmSettings) -> Iterator[str]:
    if own.time is None:
        return
    minutes = minutes_of(own.time)
    if minutes is None:
        yield (
            f"{name}: `time` must be minutes, HOURS:MINUTES:SECONDS or DAYS-HOURS:MINUTES:SECONDS, "
            f"got {own.time!r}; correct `slurm.time`"
        )
    elif minutes == 0:
        yield f"{name}: `time` must be more than 0, got {own.time!r}; correct `slurm.time`"
    elif minutes * 60 <= settings.signal_seconds:
        yield (
            f"{name}: `time` must be more than `signal_seconds`, {settings.signal_seconds}, "
            f"because jobs get SIGTERM that long before their limit, got {own.time!r}; raise "
            "`slurm.time`, or lower `slurm.signal_seconds`"
        )


def _option_problems(name: str, option: str) -> Iterator[str]:
    if "\n" in option or not option.startswith("-"):
        yield (
            f"{name}: each of `sbatch` must be an option such as `--exclude=node7`, got "
            f"{option!r}; correct `slurm.sbatch`"
        )
        return
    for long, short in OWN.items():
        if _has_option(option, long, short):
            yield (
                f"{name}: `sbatch` must not have `{long}`, which rvrun sets itself, got "
                f"{option!r}; remove it from `slurm.sbatch`"
            )
    if _has_option(option, "--clusters", "-M"):
        yield (
            f"{name}: `sbatch` must not have `--clusters`, because all commands of Slurm must look "
            f"at the same cluster, got {option!r}; set SLURM_CLUSTERS where you run rvrun instead"
        )


def _has_option(line: str, long: str, short: str) -> bool:
    """Whether one of the words of a line is an option, which may be abbreviated or have a value."""
    names = [word.partition("=")[0] for word in line.split()]
    return any(
        (long.startswith(name) and len(name) > len("--"))
        if name.startswith("--")
        else bool(short) and name.startswith(short)
        for name in names
    )


def environment_problems(
    name: str, own: SlurmCommandSettings, not_secret: Collection[str]
) -> Iterator[str]:
    """Yield a sentence for each environment variable that a script must not set."""
    for variable, value in own.environment.items():
        if not _VARIABLE.fullmatch(variable):
            yield (
                f"{name}: environment variable names must have only letters, digits and `_`, got "
                f"{variable!r}; rename it in `slurm.environment`"
            )
        elif variable.startswith("SLURM_"):
            yield (
                f"{name}: environment variable names must not begin with SLURM_, got `{variable}`, "
                "which Slurm sets itself; rename it"
            )
        if variable not in not_secret and (why := mark(variable, value)):
            yield (
                f"{name}: environment variable `{variable}` {why}, which everybody who can read "
                "the run directory can read; set it in `slurm.prologue` from a file that only you "
                "can read, or add its name to `slurm.not_secret` if it is not one"
            )
