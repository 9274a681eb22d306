"""The values that the compiler reads and writes. All frozen; none knows a clock, a path or a run.

`Command` is what the user wrote, `Stage` what is planned of it, `Target` one unit that runs.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

import attrs
from attrs.validators import instance_of

from rvrun import paths
from rvrun.errors import Problem, RvrunError


def _check_count(_: object, field: attrs.Attribute[int | None], value: object) -> None:
    """An attrs validator: None, or a whole number of at least 1 (True is none)."""
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"`{field.name}` must be a whole number of at least 1, not {value!r}")


def _check_text(_: object, field: attrs.Attribute[str | None], value: object) -> None:
    """An attrs validator: None, or a text that says something."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"`{field.name}` must be a text, not {value!r}")


#: argv words that a runner replaces by its own way to say them.
CONFIG = "{config}"
SPLIT_IND = "{split_ind}"
NUM_SPLITS = "{num_splits}"


class NeedKind(enum.StrEnum):
    """How the splits of a needed stage relate to those of the stage that needs them."""

    ALL = "all"
    ALIGNED = "aligned"


@attrs.frozen
class Need:
    """A command that must be done first: every split of it, or the one of the same index."""

    command: str
    kind: NeedKind = NeedKind.ALL


@attrs.frozen(kw_only=True)
class Resources:
    """What a command asks of the machine that runs it; None leaves it to the runner.

    - `vcpus`, `gpus`: counts. `memory_mib`: MiB. `timeout_seconds`: for each try of a target.
    - `job_queue`, `job_def`: on AWS Batch, instead of those of the settings.
    """

    vcpus: int | None = attrs.field(default=None, validator=_check_count)
    memory_mib: int | None = attrs.field(default=None, validator=_check_count)
    gpus: int | None = attrs.field(default=None, validator=_check_count)
    timeout_seconds: int | None = attrs.field(default=None, validator=_check_count)
    job_queue: str | None = attrs.field(default=None, validator=_check_text)
    job_def: str | None = attrs.field(default=None, validator=_check_text)


@attrs.frozen(kw_only=True)
class Command:
    """A command as the user wrote it.

    - `needs`: None where the user said nothing, so that it needs the command before it.
    - `config_keys`: dotted fields of the config it depends on; None for all.
    - `num_items`: how many items its splits share out, where that is known.
    - `location`: `file:line` of its method; tells where, is no part of what.
    """

    name: str
    is_split: bool = False
    gpu: bool = False
    needs: tuple[Need, ...] | None = None
    config_keys: tuple[str, ...] | None = None
    resources: Resources = Resources()
    num_items: int | None = attrs.field(default=None, eq=False)
    location: str = attrs.field(default="", eq=False)


@attrs.frozen(kw_only=True)
class DeclaredPipeline:
    """All commands of one pipeline as the user wrote them, in the pipeline's own order.

    `config_digest` is `sha256:` and the hex digest of its canonical config JSON.
    """

    name: str
    config_digest: str
    commands: tuple[Command, ...]
    location: str = attrs.field(default="", eq=False)


@attrs.frozen(kw_only=True)
class Target:
    """One unit that runs: a stage, or one split of it."""

    pipeline: str
    command: str
    split_ind: int | None = None
    num_splits: int | None = None

    @property
    def name(self) -> str:
        """`tiny/train`, or `tiny/predict/3`."""
        stage = f"{self.pipeline}/{self.command}"
        return stage if self.split_ind is None else f"{stage}/{self.split_ind}"

    @property
    def path(self) -> str:
        """Its path below `done/`, `records/` and `logs/`."""
        return paths.target(self.pipeline, self.command, self.split_ind, self.num_splits)


@attrs.frozen(kw_only=True)
class Stage:
    """A command as planned. `num_splits` is None for a command that is never split."""

    command: str
    num_splits: int | None = attrs.field(default=None, validator=_check_count)
    gpu: bool = attrs.field(default=False, validator=instance_of(bool))
    needs: tuple[Need, ...] = ()
    config_keys: tuple[str, ...] | None = None
    resources: Resources = Resources()

    @property
    def num_targets(self) -> int:
        return 1 if self.num_splits is None else self.num_splits

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line of each target, its words in braces still to be said."""
        argv = ("rvrun", "run_command", CONFIG, self.command)
        if self.num_splits is None:
            return argv
        return (*argv, "--split-ind", SPLIT_IND, "--num-splits", NUM_SPLITS)

    def stamp(self, pipeline: str) -> str:
        """Return the file, in the run directory, that is newer than all of the finished stage."""
        return paths.stamp(pipeline, self.command, is_split=self.num_splits is not None)

    def stamps_folder(self, pipeline: str) -> str | None:
        """Return the folder of its splits' stamps; None for a command that is never split."""
        if self.num_splits is None:
            return None
        return paths.splits_folder(pipeline, self.command, self.num_splits)

    def config_file(self, pipeline: str) -> str:
        """Return the config file that it depends on: the whole config, or the part it declares."""
        if self.config_keys is None:
            return paths.config(pipeline)
        return paths.narrowed_config(pipeline, self.command)

    def target(self, pipeline: str, index: int) -> Target:
        """The target of that index, from 0; a stage never split has one."""
        is_split = self.num_splits is not None
        return Target(
            pipeline=pipeline,
            command=self.command,
            split_ind=index if is_split else None,
            num_splits=self.num_splits,
        )

    def targets(self, pipeline: str) -> Iterator[Target]:
        """This stage's targets, in the order of their splits."""
        return (self.target(pipeline, index) for index in range(self.num_targets))


@attrs.frozen(kw_only=True)
class PlannedPipeline:
    """The stages of one pipeline, each after all that it needs."""

    name: str
    config_digest: str
    stages: tuple[Stage, ...]

    def stage(self, command: str) -> Stage:
        """The stage of `command`; KeyError where it has none."""
        for stage in self.stages:
            if stage.command == command:
                return stage
        raise KeyError(command)


@attrs.frozen
class Plan:
    """All stages of all pipelines of a run. Pipelines are independent of each other."""

    pipelines: tuple[PlannedPipeline, ...]

    @property
    def num_stages(self) -> int:
        return sum(len(pipeline.stages) for pipeline in self.pipelines)

    @property
    def num_targets(self) -> int:
        return sum(s.num_targets for pipeline in self.pipelines for s in pipeline.stages)

    def targets(self) -> Iterator[Target]:
        """Every target, each after all that it needs."""
        for pipeline in self.pipelines:
            for stage in pipeline.stages:
                yield from stage.targets(pipeline.name)


class BadName(RvrunError):
    """A name that cannot stand in a target's name."""

    def __init__(self, kind: str, name: str, allowed: str, location: str = "") -> None:
        self.kind = kind
        self.name = name
        self.allowed = allowed
        self.location = location

    def __str__(self) -> str:
        where = f" ({self.location})" if self.location else ""
        return f"{self.kind} name {self.name!r}{where} cannot be used: {self.allowed}"


#: Goals and directories of the Makefile, so no names for pipelines.
RESERVED = ("all", "clean", "done", "forward", "help")
_PIPELINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMAND_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _is(pattern: re.Pattern[str], name: object) -> bool:
    return isinstance(name, str) and pattern.fullmatch(name) is not None


def check_pipeline_name(name: str, location: str = "") -> None:
    """Raise `BadName` for a name that cannot stand in file and target names as it is."""
    if not _is(_PIPELINE_NAME, name) or name.endswith(".json"):
        raise BadName(
            "pipeline",
            name,
            "use letters a-z, digits, `.`, `_` and `-`, a letter or digit first, no `.json` last",
            location,
        )
    if name.casefold() in RESERVED:
        raise BadName("pipeline", name, f"{', '.join(RESERVED)} mean something to make", location)


def check_command_name(name: str, location: str = "") -> None:
    """Raise `BadName` unless `name` is an ASCII identifier."""
    if not _is(_COMMAND_NAME, name):
        allowed = "use letters a-z, digits and `_`, as in a method's name"
        raise BadName("command", name, allowed, location)


class BadPlan(Problem):
    """A plan that no compiler made: its stages do not fit together."""


def check_plan(plan: Plan) -> None:
    """Raise `BadName` or `BadPlan` unless `plan` is what readers of plans rely on.

    Pipelines and their stages have usable, unique names; each stage stands after all that it
    needs; aligned needs are between stages of equally many splits.
    """
    _check_unique("pipeline", [pipeline.name for pipeline in plan.pipelines])
    for pipeline in plan.pipelines:
        check_pipeline_name(pipeline.name)
        _check_unique("stage", [stage.command for stage in pipeline.stages])
        before: dict[str, Stage] = {}
        for stage in pipeline.stages:
            check_command_name(stage.command)
            for need in stage.needs:
                _check_need(f"{pipeline.name}/{stage.command}", stage, need, before)
            before[stage.command] = stage


def _check_unique(kind: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise BadPlan(f"two {kind}s are named `{name}`")


def _check_need(name: str, stage: Stage, need: Need, before: dict[str, Stage]) -> None:
    needed = before.get(need.command)
    if needed is None:
        raise BadPlan(f"`{name}` needs `{need.command}`, which is no stage before it")
    counts = (stage.num_splits, needed.num_splits)
    if need.kind is NeedKind.ALIGNED and (None in counts or counts[0] != counts[1]):
        raise BadPlan(f"`{name}` needs `{need.command}` aligned, but is not split like it")
