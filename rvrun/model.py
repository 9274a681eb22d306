"""The values that the compiler reads and writes, frozen and independent of any one run.

`Command` is what the user declared, `Stage` is a command as planned, and `Target` is one unit of
work: a stage, or one of its splits.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Any, Final, Literal

import attrs

from rvrun import paths
from rvrun.errors import Problem, RvrunError
from rvrun.item_list import ItemList
from rvrun.text import count, quoted


def _check_count(_: object, field: attrs.Attribute[Any], value: object) -> None:
    # Not isinstance: True is an int, but not a count.
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"`{field.name}` must be an integer of at least 1, got {quoted(value)}")


def _check_retries(_: object, field: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None and value > MAX_RETRIES:
        raise ValueError(f"`{field.name}` must be at most {MAX_RETRIES}, got {value}")


def _check_string(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"`{field.name}` must be a non-empty string, got {quoted(value)}")


def _check_boolean(_: object, field: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"`{field.name}` must be a boolean, got {quoted(value)}")


#: The most attempts after a first one; some services make no more than ten in all.
MAX_RETRIES = 9
#: More than any machine can run; a mistyped number fails early instead of exhausting memory.
MAX_SPLITS = 10_000_000
#: One split per item, in place of a number of splits.
EACH: Final = "each"
#: Placeholders in argv that a runner replaces.
CONFIG = "{config}"
SPLIT_IND = "{split_ind}"
NUM_SPLITS = "{num_splits}"


class NeedKind(enum.StrEnum):
    """How the splits of a stage depend on those of a stage that it needs.

    - `ALL`: every split needs all splits. `ALIGNED`: split I needs only split I.
    """

    ALL = "all"
    ALIGNED = "aligned"


class CodeMode(enum.StrEnum):
    """What a change of the code that a stage reaches does; the values are part of the format.

    - `RERUN`: it makes the stage stale. `WARN`: it is only shown. `OFF`: nobody looks.
    """

    RERUN = "rerun"
    WARN = "warn"
    OFF = "off"


class ItemCall(enum.StrEnum):
    """What the method of a command with items gets; the values are part of the format.

    - `ITEM`: one item. `ITEMS`: the list of items that are not done. `SHARE`: the number of its
      split; the items of a share are then done together.
    """

    ITEM = "item"
    ITEMS = "items"
    SHARE = "share"


@attrs.frozen(kw_only=True)
class StageItems:
    """The items that the splits of a stage share out, without the items themselves.

    - `field`: the path of the items in the config.
    - `digest`: `sha256:` and the digest of all items in their order.
    """

    field: str = attrs.field(validator=_check_string)
    count: int
    digest: str
    call: ItemCall = ItemCall.SHARE


@attrs.frozen
class Need:
    """A dependency on another command of the same pipeline."""

    command: str
    kind: NeedKind = NeedKind.ALL


@attrs.frozen(kw_only=True)
class Resources:
    """What each target of a command requires of the machine; None leaves it to the runner.

    - `vcpus`, `gpus`: counts. `memory_mib`: MiB. `timeout_seconds`: limit of each attempt.
    - `retries`: attempts after a first one that failed, at most 9.
    - `job_queue`, `job_def`: names, for runners that submit jobs; override the settings.
    - `image`: the container image, for runners whose jobs name one.
    """

    vcpus: int | None = attrs.field(default=None, validator=_check_count)
    memory_mib: int | None = attrs.field(default=None, validator=_check_count)
    gpus: int | None = attrs.field(default=None, validator=_check_count)
    timeout_seconds: int | None = attrs.field(default=None, validator=_check_count)
    retries: int | None = attrs.field(default=None, validator=(_check_count, _check_retries))
    job_queue: str | None = attrs.field(default=None, validator=_check_string)
    job_def: str | None = attrs.field(default=None, validator=_check_string)
    image: str | None = attrs.field(default=None, validator=_check_string)


@attrs.frozen(kw_only=True)
class Command:
    """A command as the user declared it.

    - `needs`: None if the user did not declare any, so that it needs the command before it.
    - `config_keys`: config fields it depends on, with dots for nested fields; None for all.
    - `inputs`, `item_inputs`, `outputs`: paths, globs and URIs of files that it reads and writes,
      as in `Stage`.
    - `has_code`: whether it reaches code whose changes matter; if not, its config says it all.
    - `num_splits`: the number of splits unless somebody asks for another one.
    - `items`: those that its splits share out; None if it declares none. `item_list`: each of them.
    - `num_items`: how many items its splits share out; None if unknown.
    - `item_paths`: the paths of `item_inputs` for all items.
    - `if_each`: the command as it is with one split per item; None if that makes no difference.
    - `location`: `file:line` of its method, for messages.
    """

    name: str
    is_split: bool = False
    gpu: bool = False
    needs: tuple[Need, ...] | None = None
    config_keys: tuple[str, ...] | None = None
    inputs: tuple[str, ...] = ()
    item_inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    resources: Resources = Resources()
    has_code: bool = True
    num_splits: int | Literal["each"] = 1
    items: StageItems | None = None
    item_list: ItemList | None = None
    num_items: int | None = attrs.field(default=None, eq=False)
    item_paths: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
    if_each: Command | None = attrs.field(default=None, eq=False)
    location: str = attrs.field(default="", eq=False)


@attrs.frozen(kw_only=True)
class DeclaredPipeline:
    """A pipeline as the user declared it, its commands in the order of declaration.

    - `config_digest`: `sha256:` and the hexadecimal digest of its config as canonical JSON.
    - `location`: `file:line` of its class, for messages.
    """

    name: str
    config_digest: str
    commands: tuple[Command, ...]
    location: str = attrs.field(default="", eq=False)


@attrs.frozen(kw_only=True)
class Target:
    """One unit of work: a stage that is not split, or one split."""

    pipeline: str
    command: str
    split_ind: int | None = None
    num_splits: int | None = None

    @property
    def name(self) -> str:
        """What users call it: `tiny/train`, or `tiny/predict/3`."""
        stage = f"{self.pipeline}/{self.command}"
        return stage if self.split_ind is None else f"{stage}/{self.split_ind}"

    @property
    def path(self) -> str:
        """Its path relative to `done/`, `records/` and `logs/`."""
        return paths.target(self.pipeline, self.command, self.split_ind, self.num_splits)


@attrs.frozen(kw_only=True)
class Stage:
    """A command as planned; `num_splits` is None if the command cannot be split.

    - `inputs`: paths, globs and URIs of the files that it reads.
    - `item_inputs`: templates of what it reads for each item, in which `{item}` stands for the item
      and `{item.FIELD}` for a field of it, and braces are doubled.
    - `produced`: what stages it needs write of both; such files are in no fingerprint.
    - `outputs`: templates of what it writes, in which `{split_ind}` and `{num_splits}` stand for
      numbers, and braces are doubled.
    """

    command: str
    num_splits: int | None = attrs.field(default=None, validator=_check_count)
    gpu: bool = attrs.field(default=False, validator=_check_boolean)
    needs: tuple[Need, ...] = ()
    config_keys: tuple[str, ...] | None = None
    code: CodeMode = CodeMode.OFF
    inputs: tuple[str, ...] = ()
    item_inputs: tuple[str, ...] = ()
    produced: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    resources: Resources = Resources()
    items: StageItems | None = None

    @property
    def num_targets(self) -> int:
        return 1 if self.num_splits is None else self.num_splits

    @property
    def declared_inputs(self) -> tuple[str, ...]:
        """What it reads, for all items and for each."""
        return (*self.inputs, *self.item_inputs)

    @property
    def argv(self) -> tuple[str, ...]:
        """The argv template; runners fill in {config}, {split_ind} and {num_splits}."""
        argv = ("rvrun", "run_command", CONFIG, self.command)
        if self.num_splits is None:
            return argv
        return (*argv, "--split-ind", SPLIT_IND, "--num-splits", NUM_SPLITS)

    def stamp(self, pipeline: str) -> str:
        """Return the path of the stamp that is touched when the whole stage is done."""
        return paths.stamp(pipeline, self.command, is_split=self.num_splits is not None)

    def stamps_folder(self, pipeline: str) -> str | None:
        """Return the path of the folder with its splits' stamps; None if it cannot be split."""
        if self.num_splits is None:
            return None
        items = None if self.items is None else self.items.digest
        return paths.splits_folder(pipeline, self.command, self.num_splits, items)

    def target_stamp(self, pipeline: str, index: int) -> str:
        """Return the path of the stamp of the target with an index from 0."""
        folder = self.stamps_folder(pipeline)
        return self.stamp(pipeline) if folder is None else f"{folder}/{index}"

    def items_file(self, pipeline: str) -> str | None:
        """Return the path of the list of its items; None if it declares none."""
        return None if self.items is None else paths.items(pipeline, self.command)

    def config_file(self, pipeline: str) -> str:
        """Return the path of the config file it depends on: the whole one, or its part.

        A command with items depends on a part without them.
        """
        if self.config_keys is None and self.items is None:
            return paths.config(pipeline)
        return paths.narrowed_config(pipeline, self.command)

    def code_file(self, pipeline: str) -> str | None:
        """Return the path of the fingerprint of its code; None if there is none."""
        return None if self.code is CodeMode.OFF else paths.code(pipeline, self.command)

    def inputs_file(self, pipeline: str) -> str | None:
        """Return the path of the fingerprint of its inputs; None if stages it needs write all."""
        has_own = any(path not in self.produced for path in self.inputs)
        return paths.inputs(pipeline, self.command) if has_own else None

    def item_inputs_file(self, pipeline: str) -> str | None:
        """Return the path of the fingerprints of its items' inputs; None if it declares none."""
        return paths.item_inputs(pipeline, self.command) if self.item_inputs else None

    def fingerprints(self, pipeline: str) -> tuple[str, ...]:
        """Return the paths of the files that make it stale when they change, needs apart."""
        code = self.code_file(pipeline) if self.code is CodeMode.RERUN else None
        files = (self.config_file(pipeline), code, self.inputs_file(pipeline))
        return tuple(file for file in files if file is not None)

    def target(self, pipeline: str, index: int) -> Target:
        """Return the target with an index from 0; a stage that cannot be split has only 0."""
        is_split = self.num_splits is not None
        return Target(
            pipeline=pipeline,
            command=self.command,
            split_ind=index if is_split else None,
            num_splits=self.num_splits,
        )

    def targets(self, pipeline: str) -> Iterator[Target]:
        """Return the stage's targets in the order of their splits."""
        return (self.target(pipeline, index) for index in range(self.num_targets))


@attrs.frozen(kw_only=True)
class PlannedPipeline:
    """The stages of one pipeline, each after the stages it needs."""

    name: str
    config_digest: str
    stages: tuple[Stage, ...]

    def stage(self, command: str) -> Stage:
        """Return the stage of `command`. Raises KeyError if there is none."""
        for stage in self.stages:
            if stage.command == command:
                return stage
        raise KeyError(command)


@attrs.frozen
class Plan:
    """All stages of a run; its pipelines are independent of each other."""

    pipelines: tuple[PlannedPipeline, ...]

    @property
    def num_stages(self) -> int:
        return sum(len(pipeline.stages) for pipeline in self.pipelines)

    @property
    def num_targets(self) -> int:
        return sum(s.num_targets for pipeline in self.pipelines for s in pipeline.stages)

    @property
    def has_items(self) -> bool:
        """Whether a stage shares out items."""
        return any(stage.items is not None for p in self.pipelines for stage in p.stages)

    @property
    def title(self) -> str:
        """The plan in one line: `tiny: 12 targets in 6 stages`."""
        names = ", ".join(pipeline.name for pipeline in self.pipelines)
        targets, stages = count(self.num_targets, "target"), count(self.num_stages, "stage")
        return f"{names}: {targets} in {stages}"

    def targets(self) -> Iterator[Target]:
        """Return all targets, each after the targets it needs."""
        for pipeline in self.pipelines:
            for stage in pipeline.stages:
                yield from stage.targets(pipeline.name)


class BadName(RvrunError):
    """A name that cannot be part of file and target names; `rule` continues "must"."""

    kind: str
    name: str
    rule: str
    location: str = ""
    fix = "rename the {kind} {name!r}"

    def __str__(self) -> str:
        location = f" ({self.location})" if self.location else ""
        return f"a {self.kind} name must {self.rule}, got {quoted(self.name)}{location}"


#: Goals and directories of the Makefile, so a pipeline cannot have these names.
RESERVED = ("all", "clean", "done", "forward", "help")
_COMMAND_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PIPELINE_RULE = (
    "contain only ASCII letters, digits, `.`, `_` and `-`, start with a letter or digit, "
    "and not end with `.json`"
)
_RESERVED_RULE = f"not be one of {', '.join(RESERVED)}, which the Makefile uses"
_COMMAND_RULE = "contain only ASCII letters, digits, `_` and `-`, and start with a letter or `_`"


def check_pipeline_name(name: str, location: str = "") -> None:
    """Raise `BadName` unless `name` can be part of file names and make targets as it is."""
    if not paths.is_pipeline_name(name) or name.endswith(".json"):
        raise BadName("pipeline", name, _PIPELINE_RULE, location)
    if name.casefold() in RESERVED:
        raise BadName("pipeline", name, _RESERVED_RULE, location)


def check_command_name(name: str, location: str = "") -> None:
    """Raise `BadName` unless `name` can be part of file names and make targets as it is."""
    # A user's config or a plan.json may contain a value of another type.
    if not isinstance(name, str) or not _COMMAND_NAME.fullmatch(name):
        raise BadName("command", name, _COMMAND_RULE, location)


class BadPlan(Problem):
    """A plan whose stages do not fit together: no compiler can have made it."""


def check_plan(plan: Plan) -> None:
    """Raise `BadName` or `BadPlan` unless `plan` has what its readers rely on.

    Pipelines and their stages have valid, unique names; each stage is after the stages it needs;
    stages with an aligned need have the same number of splits and the same items.
    """
    _check_unique("pipeline", [pipeline.name for pipeline in plan.pipelines])
    for pipeline in plan.pipelines:
        check_pipeline_name(pipeline.name)
        _check_unique("stage", [stage.command for stage in pipeline.stages])
        earlier: dict[str, Stage] = {}
        for stage in pipeline.stages:
            check_command_name(stage.command)
            if stage.items is not None and stage.num_splits is None:
                raise BadPlan(f"`{pipeline.name}/{stage.command}` has items, but no splits")
            if (stage.num_splits or 0) > MAX_SPLITS:
                limit = f"`{pipeline.name}/{stage.command}` must have at most {MAX_SPLITS:,} splits"
                raise BadPlan(f"{limit}, got {stage.num_splits:,}")
            for need in stage.needs:
                _check_need(f"{pipeline.name}/{stage.command}", stage, need, earlier)
            earlier[stage.command] = stage


def _check_unique(kind: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise BadPlan(f"two {kind}s are named `{name}`")


def _check_need(name: str, stage: Stage, need: Need, earlier: dict[str, Stage]) -> None:
    needed = earlier.get(need.command)
    if needed is None:
        raise BadPlan(f"`{name}` needs `{need.command}`, which is not a stage before it")
    counts = (stage.num_splits, needed.num_splits)
    if need.kind is NeedKind.ALIGNED and (None in counts or counts[0] != counts[1]):
        ours, theirs = ("null" if count is None else count for count in counts)
        raise BadPlan(
            f"`{name}` needs `{need.command}` aligned, so both must have the same number of "
            f"splits, got {ours} and {theirs}"
        )
    digests = {None if s.items is None else s.items.digest for s in (stage, needed)}
    if need.kind is NeedKind.ALIGNED and len(digests) > 1:
        raise BadPlan(f"`{name}` needs `{need.command}` aligned, so both must have the same items")
