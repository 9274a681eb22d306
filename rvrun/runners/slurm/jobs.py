"""Turn a plan into jobs of Slurm, and jobs into submissions. Pure.

A job is a script: a stage, whose splits are shared out to tasks of `pack` splits each. A submission
is a call of sbatch: a job, or some tasks of it, because an array must not have an index as large as
the cluster's MaxArraySize, and because tasks that are done are not submitted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun import split_ranges
from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage

#: Slurm's own default of MaxArraySize (slurm.conf(5)); the largest index is one less.
MAX_ARRAY_SIZE = 1001


@attrs.frozen(kw_only=True)
class Job:
    """The job of a stage.

    - `stage`: its name, `tiny/chip`. `script`: the name of its script.
    - `stamps`: the path of its stamp, or of the folder with the stamps of its splits.
    - `num_splits`: None if the stage is not split. `pack`: how many splits a task runs.
    - `max_running`: how many tasks may run in parallel; None for no limit.
    - `after`: stages that must succeed as a whole first.
    - `corresponding`: stages of which only the same task must succeed first.
    """

    stage: str
    script: str
    stamps: str
    num_splits: int | None = None
    pack: int = 1
    max_running: int | None = None
    after: tuple[str, ...] = ()
    corresponding: tuple[str, ...] = ()

    @property
    def num_tasks(self) -> int:
        return 1 if self.num_splits is None else math.ceil(self.num_splits / self.pack)

    def targets(self, task: int) -> range:
        """Return the indices of the targets that a task runs."""
        num_targets = 1 if self.num_splits is None else self.num_splits
        return range(task * self.pack, min((task + 1) * self.pack, num_targets))

    def tasks(self, targets: Iterable[int]) -> tuple[int, ...]:
        """Return the tasks that run these targets, in ascending order."""
        return tuple(sorted({target // self.pack for target in targets}))

    def target_name(self, index: int) -> str:
        """Return the name of a target: `tiny/chip/3`."""
        return self.stage if self.num_splits is None else f"{self.stage}/{index}"


@attrs.frozen(kw_only=True)
class Submission:
    """A call of sbatch.

    - `key`: identifies it in its round: `tiny/chip`, or `tiny/chip.1` for a further array.
    - `offset`: what is added to an array index to get the task.
    - `tasks`: the tasks it runs.
    - `after`, `corresponding`: keys of submissions that must succeed first, as in `Job`.
    """

    key: str
    job: Job
    tasks: tuple[int, ...]
    offset: int = 0
    after: tuple[str, ...] = ()
    corresponding: tuple[str, ...] = ()

    @property
    def array(self) -> str | None:
        """The value of `--array`, such as `0-99%8`; None for a stage that is not split."""
        if self.job.num_splits is None:
            return None
        indices = split_ranges.write_ranges(task - self.offset for task in self.tasks)
        return f"{indices}%{self.job.max_running}" if self.job.max_running else indices


@attrs.frozen
class Packing:
    """How the splits of a stage are packed: `pack` and `max_running` as in `Job`."""

    pack: int = 1
    max_running: int | None = None


def plan_jobs(plan: Plan, packing: Mapping[str, Packing]) -> list[Job]:
    """Return the job of each stage, in the order of the plan; `packing` is by stage."""
    stages = [(pipeline, stage) for pipeline in plan.pipelines for stage in pipeline.stages]
    width = len(str(len(stages)))
    return [
        _job(pipeline, stage, f"{number:0{width}}-{pipeline.name}-{stage.command}.sh", packing)
        for number, (pipeline, stage) in enumerate(stages, start=1)
    ]


def _job(
    pipeline: PlannedPipeline, stage: Stage, script: str, packing: Mapping[str, Packing]
) -> Job:
    name = f"{pipeline.name}/{stage.command}"
    own = packing[name]
    after: list[str] = []
    corresponding: list[str] = []
    for need in stage.needs:
        needed = f"{pipeline.name}/{need.command}"
        # Tasks of the same index have the same splits only if as many are packed.
        is_aligned = need.kind is NeedKind.ALIGNED and packing[needed].pack == own.pack
        (corresponding if is_aligned else after).append(needed)
    return Job(
        stage=name,
        script=script,
        stamps=stage.stamps_folder(pipeline.name) or stage.stamp(pipeline.name),
        num_splits=stage.num_splits,
        pack=min(own.pack, stage.num_splits or 1),
        max_running=own.max_running,
        after=tuple(after),
        corresponding=tuple(corresponding),
    )


def submissions(
    jobs: Sequence[Job], tasks: Mapping[str, Sequence[int]], max_array_size: int
) -> list[Submission]:
    """Return the calls of sbatch for these tasks of each job, each after those that it needs.

    - `tasks`: by stage; a stage without tasks is not submitted, and nothing waits for it.
    """
    parts: dict[str, list[Submission]] = {}
    for job in jobs:
        own = list(_split(job, tasks.get(job.stage, ()), max_array_size))
        parts[job.stage] = [_with_needs(part, parts) for part in own]
    return [part for job in jobs for part in parts[job.stage]]


def _split(job: Job, tasks: Sequence[int], max_array_size: int) -> Iterator[Submission]:
    """Yield a submission for each array that the tasks need."""
    chunks: dict[int, list[int]] = {}
    for task in tasks:
        chunks.setdefault(task // max_array_size, []).append(task)
    for number, chunk in chunks.items():
        key = job.stage if number == 0 else f"{job.stage}.{number}"
        yield Submission(key=key, job=job, tasks=tuple(chunk), offset=number * max_array_size)


def _with_needs(part: Submission, parts: Mapping[str, Sequence[Submission]]) -> Submission:
    """Return a submission with what it needs of the submissions before it.

    `aftercorr` looks for the same index in the other array. A task that is not submitted, because
    it is done, has none, so that a task waits for the whole array instead: later than necessary,
    but never too early.
    """
    after = [other.key for stage in part.job.after for other in parts[stage]]
    corresponding = []
    for stage in part.job.corresponding:
        same = [other for other in parts[stage] if other.offset == part.offset]
        is_covered = any(set(part.tasks) <= set(other.tasks) for other in same)
        if is_covered:
            corresponding += [other.key for other in same]
        else:
            after += [other.key for other in same]
    return attrs.evolve(part, after=tuple(after), corresponding=tuple(corresponding))


def job_to_json(job: Job) -> dict[str, Any]:
    """Return a job as JSON values."""
    return attrs.asdict(job)


def jobs_from_json(text: str) -> list[Job]:
    """Return the jobs of a run. Raises TypeError, KeyError or ValueError."""
    return [_job_from_json(values) for values in json.loads(text)]


def _job_from_json(values: Mapping[str, Any]) -> Job:
    """Return the job that `job_to_json` wrote."""
    own = {name: tuple(map(str, values[name])) for name in ("after", "corresponding")}
    job = Job(**{**values, **own})
    if not all(isinstance(text, str) for text in (job.stage, job.script, job.stamps)):
        raise TypeError("`stage`, `script` and `stamps` must be strings")
    if type(job.pack) is not int or job.pack < 1 or type(job.num_splits or 1) is not int:
        raise ValueError("`pack` and `num_splits` must be integers")
    return job
