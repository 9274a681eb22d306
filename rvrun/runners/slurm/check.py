"""Findings of `rvrun check --runner slurm`: whether the cluster would accept the jobs of a run."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rvrun.errors import RvrunError
from rvrun.finding import Finding, Level, error, ok, warning
from rvrun.runners.problems import check_fit
from rvrun.runners.run import Run
from rvrun.runners.slurm import commands
from rvrun.runners.slurm.commands import Limits, overriding
from rvrun.runners.slurm.jobs import MAX_ARRAY_SIZE, Job, jobs_from_json, submissions
from rvrun.runners.slurm.nodes import are_complete, check_nodes, parse_node
from rvrun.runners.slurm.options import job_settings, minutes_of
from rvrun.runners.slurm.render import FOLDER, JOBS, TITLE, render
from rvrun.runners.slurm.settings import SlurmCommandSettings, SlurmSettings
from rvrun.settings.schema import Settings

#: What rvrun calls.
PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol")
#: What sbatch prints if it would accept a job for which no node is usable at the moment. Whether
#: one ever is, `check_nodes` tells.
NOT_NOW = re.compile(r"allocation failure: (.*\b(?:not available|busy)\b.*)")
#: What Slurm replaces in the path of a job's output, or makes it replace nothing (sbatch(1)). A
#: script can escape that in a relative path, but not in the directory in which it is submitted.
REPLACED = re.compile(r"%\d*[%AaJjNnbstux]|\\")
#: Directories that each node has for itself, as a rule.
LOCAL = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - compared, not used


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Yield whether Slurm's commands are installed here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        fix = "run rvrun on a login node of the cluster, or load the module of Slurm"
        yield error("slurm", f"not on PATH: {', '.join(missing)}", fix)
    else:
        yield ok("slurm", f"{', '.join(PROGRAMS)} are on PATH")


def check(run: Run) -> Iterator[Finding]:
    """Yield findings about the cluster, the partitions and the scripts; nothing is submitted."""
    files = render(run)
    try:
        limits = commands.limits()
        findings = list(check_cluster(run, limits))
    except RvrunError as problem:
        yield error("cluster", problem, "check `scontrol ping`")
        return
    yield from findings
    jobs = jobs_from_json(files[JOBS])
    # Fewer if some of it is done.
    yield from check_count(sum(job.num_tasks for job in jobs), limits, warning)
    yield from _check_storage(run)
    if not _has_error(findings):
        size = run.settings.of(SlurmSettings).max_array_size or limits.max_array_size
        yield from _check_scripts(run, files, jobs, size or MAX_ARRAY_SIZE)


def require(findings: Iterable[Finding]) -> None:
    """Raise `Unfit` with the errors among `findings`."""
    errors = (finding for finding in findings if finding.level is Level.ERROR)
    check_fit(TITLE, (f"{finding.text}; {finding.fix}" for finding in errors))


def check_cluster(run: Run, limits: Limits) -> Iterator[Finding]:
    """Yield findings about MaxArraySize and the partitions, which `scontrol show` prints.

    Raises `NotInstalled`, `NoAnswer` or `CommandFailed`.
    """
    settings = run.settings.of(SlurmSettings)
    yield from _check_workdir(run)
    yield _check_size(settings.max_array_size, limits.max_array_size)
    rows = commands.partitions()
    nodes = [node for line in commands.nodes() if (node := parse_node(line)) is not None]
    nodes = nodes if are_complete(rows, nodes) else []
    default = next((name for name, row in rows.items() if row.get("Default") == "YES"), None)
    for pipeline in run.plan.pipelines:
        for stage in pipeline.stages:
            name = f"{pipeline.name}/{stage.command}"
            own = job_settings(name, stage, settings)
            partitions = (own.partition or default or "").split(",")
            yield from check_partitions(name, own, rows, partitions)
            yield from check_nodes(name, own, partitions, nodes)
            yield from _check_container(name, own, run.workdir)


def check_count(
    num_jobs: int, limits: Limits, report: Callable[..., Finding] = error
) -> Iterator[Finding]:
    """Yield what `report` makes of it if the cluster cannot accept so many jobs at a time.

    The controller counts each task of an array when the array is submitted (`_add_job_record` in
    its job_mgr.c), and sbatch repeats its request, silently, until other jobs have ended.
    """
    most = limits.max_job_count
    if most is not None and num_jobs >= most:
        text = f"{num_jobs:,} jobs are too many for the cluster, whose MaxJobCount is {most:,}"
        yield report("cluster", text, "put several splits into each job with `slurm.pack`")


def _check_workdir(run: Run) -> Iterator[Finding]:
    workdir = str(run.workdir.absolute())
    if (match := REPLACED.search(workdir)) and not os.path.isabs(run.out):
        text = (
            f"Slurm would not find {workdir}, because it reads `{match[0]}` as a part of a pattern"
        )
        yield error("storage", text, "rename the directory")


def _check_size(setting: int | None, size: int | None) -> Finding:
    if size is None:
        return ok("cluster", "answers, and does not say its MaxArraySize")
    if setting is not None and setting > size:
        text = f"`max_array_size` must be at most the cluster's MaxArraySize, {size}, got {setting}"
        return error("cluster", text, "lower or remove `slurm.max_array_size`")
    return ok("cluster", f"answers; MaxArraySize is {size:,}")


def check_partitions(
    name: str,
    own: SlurmCommandSettings,
    rows: Mapping[str, Mapping[str, str]],
    partitions: Iterable[str],
) -> Iterator[Finding]:
    """Yield findings about the partitions of a stage; a job runs in whichever it fits.

    - `rows`: the attributes of each partition.
    """
    limits: list[list[Finding]] = []
    for partition in partitions:
        if not partition:
            text = f"{name}: no partition, and the cluster has no default partition"
            yield error("partition", text, f"set `slurm.partition` to one of {_names(rows)}")
        elif partition not in rows:
            text = f"{name}: partition `{partition}` does not exist"
            yield error("partition", text, f"set `slurm.partition` to one of {_names(rows)}")
        else:
            limits.append(list(_check_limits(name, own, partition, rows[partition])))
    fits = any(not _has_error(findings) for findings in limits)
    for finding in itertools.chain(*limits) if all(limits) else ():
        if not (fits and finding.level is Level.ERROR):
            yield finding


def _has_error(findings: Iterable[Finding]) -> bool:
    return any(finding.level is Level.ERROR for finding in findings)


def _names(rows: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in rows) or "none"


def _check_limits(
    name: str, own: SlurmCommandSettings, partition: str, row: Mapping[str, str]
) -> Iterator[Finding]:
    if row.get("State", "UP") != "UP":
        text = f"{name}: partition `{partition}` is {row['State'].lower()}, so its jobs would wait"
        yield warning("partition", text, "choose another with `slurm.partition`, or wait")
    limit = minutes_of(row.get("MaxTime", "UNLIMITED"))
    minutes = minutes_of(own.time) if own.time else None
    if limit is not None and minutes is not None and minutes > limit:
        text = (
            f"{name}: `time` must be at most the limit of partition `{partition}`, "
            f"{row['MaxTime']}, got {own.time}"
        )
        fix = "lower `slurm.time`, or the command's `timeout_seconds` from which it results"
        yield error("partition", text, f"{fix}, or choose another partition")
    cpus, most = (own.cpus or 1) * (own.parallel or 1), row.get("MaxCPUsPerNode", "")
    if most.isdecimal() and cpus > int(most):
        text = (
            f"{name}: a job must request at most {most} CPUs in partition `{partition}`, got {cpus}"
        )
        yield error("partition", text, "lower `slurm.cpus` or `slurm.parallel`")
    accounts = row.get("AllowAccounts", "ALL").lower().split(",")
    if own.account and not {"all", own.account.lower()}.intersection(accounts):
        # In later versions of Slurm, accounts below these may, too (slurm.conf(5)).
        allowed = ", ".join(accounts)
        text = f"{name}: partition `{partition}` is for {allowed}, not for account `{own.account}`"
        yield warning("partition", text, "choose another account, unless it belongs to one of them")


def _check_container(
    name: str, own: SlurmCommandSettings, workdir: pathlib.Path
) -> Iterator[Finding]:
    image = own.container or ""
    # Anything else names an image of a registry.
    if image.endswith((".sif", ".sqsh")) and not (workdir / image).exists():
        text = f"{name}: container image {image} does not exist here"
        yield warning("container", text, "correct `slurm.container`, or build the image")


def _check_storage(run: Run) -> Iterator[Finding]:
    folder = os.path.realpath(run.run_dir)
    local = next((path for path in LOCAL if folder.startswith(f"{path}/")), None)
    if local is not None:
        text = f"{run.out} is below {local}, which each node usually has for itself"
        yield warning("storage", text, "use a run directory on storage that all nodes share")


def _check_scripts(
    run: Run, files: Mapping[str, str], jobs: Sequence[Job], max_array_size: int
) -> Iterator[Finding]:
    """Have Slurm check each script, without submitting it (sbatch(1), `--test-only`)."""
    import tempfile

    tasks = {job.stage: range(job.num_tasks) for job in jobs}
    calls = submissions(jobs, tasks, max_array_size)
    with tempfile.TemporaryDirectory(prefix="rvrun-") as folder:
        for call in calls:
            if call.offset:
                continue
            name = f"{FOLDER}/{call.job.script}"
            script = pathlib.Path(folder, call.job.script)
            script.write_text(files[name], encoding="utf-8")
            # As `rvrun run` submits it, which asks for MaxArraySize; rendering does not.
            array = [f"--array={call.array}"] if call.array else []
            words = ["sbatch", "--test-only", *array, str(script)]
            done = commands.call(words, cwd=run.workdir, unset=overriding(files[name]))
            if done.code and (match := NOT_NOW.match(done.stderr)):
                text = f"{name}: no node can run it now ({match[1]})"
                yield warning("script", text, "look at the nodes with `sinfo -R`")
            elif done.code:
                yield error("script", f"{name}: {done.message}", "change the settings in [slurm]")
            else:
                yield ok("script", f"{name} would be accepted")
