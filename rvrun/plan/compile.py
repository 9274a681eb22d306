"""Compile declared pipelines to a plan.

    check names     names of pipelines and commands are valid and unique
    check requests  selected commands and split counts refer to commands that exist
    sort            make needs explicit, reject cycles, sort topologically and stably
    select          keep the selected commands; needs reach through the others
    expand          assign split counts, and check aligned needs against them

Pure: no clock, no environment, no files. Ties are broken by the order of declaration, so that the
same input gives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from rvrun.errors import RvrunError, UnknownName
from rvrun.model import (
    CodeMode,
    Command,
    DeclaredPipeline,
    Need,
    NeedKind,
    Plan,
    PlannedPipeline,
    Stage,
    check_command_name,
    check_pipeline_name,
)
from rvrun.plan.data_flow import produced_inputs
from rvrun.plan.splits import BadSplits, SplitRequest, choose_num_splits
from rvrun.text import count

#: The needs of each command, by its name; in the order of declaration until it is sorted.
Graph = Mapping[str, tuple[Need, ...]]


class NamesClash(RvrunError):
    """Two pipelines, or two commands of a pipeline, that would share targets and files.

    - `locations`: of the two, as `file:line`; empty strings if unknown.
    """

    kind: str
    names: tuple[str, str]
    locations: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        pairs = zip(self.names, self.locations, strict=True)
        both = " and ".join(f"`{name}`{f' ({place})' if place else ''}" for name, place in pairs)
        problem = f"{self.kind} names must be unique, ignoring case, got {both}"
        return f"{problem}; {self.how_to_fix()}"

    def how_to_fix(self) -> str:
        if self.kind == "pipeline":
            return f'give one of the two configs another name, such as `name="{self.names[1]}-2"`'
        return f"rename one of the two {self.kind}s"


class UnknownSelected(UnknownName):
    """A selected command that no pipeline has."""

    def how_to_fix(self) -> str:
        return f"select one of: {', '.join(self.names)}"


class UnknownInSplits(UnknownName):
    """A pipeline or command that `--splits` names and that does not exist."""

    def how_to_fix(self) -> str:
        return f"change {self.place} to name an existing {self.kind}"


class Cycle(RvrunError):
    """Commands that need each other; `path` starts and ends with the same command."""

    pipeline: str
    path: tuple[str, ...]
    fix = "change `needs` of one of these commands to break the cycle"

    def __str__(self) -> str:
        return (
            f"needs of pipeline `{self.pipeline}` must not form a cycle, got "
            f"{' -> '.join(self.path)}; a command without an entry in `needs` needs the command "
            "before it in `commands`"
        )


class NotSplit(RvrunError):
    """An aligned need between commands of which one cannot be split."""

    pipeline: str
    command: str
    needed: str
    unsplit: str
    template = (
        "`{command}` of pipeline `{pipeline}` needs `{needed}` aligned, so both must be in "
        "`split_commands`, but `{unsplit}` is not"
    )
    fix = "add `{unsplit}` to `split_commands`, or need `{needed}` without `aligned`"


class UnequalSplits(RvrunError):
    """An aligned need between commands with different numbers of splits."""

    pipeline: str
    command: str
    needed: str
    count: int
    needed_count: int
    template = (
        "`{command}` of pipeline `{pipeline}` needs `{needed}` aligned, so both must have the "
        "same number of splits, got {count} and {needed_count}"
    )
    fix = "change --splits to give `{command}` and `{needed}` the same number"


class UnequalItems(RvrunError):
    """An aligned need between commands that do not share out the same items."""

    pipeline: str
    command: str
    needed: str
    problem: str
    remedy: str
    template = (
        "`{command}` of pipeline `{pipeline}` needs `{needed}` aligned, so both must share out the "
        "same items, {problem}; {remedy}"
    )
    fix = "{remedy}"


def compile_plan(
    pipelines: Sequence[DeclaredPipeline],
    select: Sequence[str] = (),
    splits: Sequence[SplitRequest] = (),
    code: CodeMode = CodeMode.OFF,
) -> Plan:
    """Compile pipelines to a plan of the commands in `select`, or of all if it is empty.

    - `select`: `train` selects the command of every pipeline, `tiny/train` that of one.
    - `code`: what a change of the code of a command does.

    The plan omits pipelines that have none of the selected commands. Raises an `RvrunError` for
    invalid names, needs, selected commands or splits.
    """
    check_names(pipelines)
    check_selected(pipelines, select)
    check_splits(pipelines, splits)
    planned = (plan_pipeline(pipeline, select, splits, code) for pipeline in pipelines)
    return Plan(tuple(pipeline for pipeline in planned if pipeline.stages))


def plan_pipeline(
    pipeline: DeclaredPipeline,
    select: Sequence[str],
    splits: Sequence[SplitRequest],
    code: CodeMode = CodeMode.OFF,
) -> PlannedPipeline:
    """Plan the stages of one pipeline."""
    whole = sort(pipeline.name, explicit_needs(pipeline))
    produced = produced_inputs(pipeline, whole)
    chosen = [name for name in whole if not {name, f"{pipeline.name}/{name}"}.isdisjoint(select)]
    graph = select_from(whole, chosen) if chosen or not select else {}
    commands = {command.name: command for command in pipeline.commands}
    counts = {
        name: _num_splits(splits, pipeline.name, commands[name])
        if commands[name].is_split
        else None
        for name in graph
    }
    for name, needs in graph.items():
        for need in needs:
            check_aligned(pipeline.name, name, need, counts)
            check_aligned_items(pipeline.name, commands[name], need, commands[need.command])
    stages = (
        expand(commands[name], needs, counts[name], code, produced[name])
        for name, needs in graph.items()
    )
    return PlannedPipeline(
        name=pipeline.name, config_digest=pipeline.config_digest, stages=tuple(stages)
    )


def _num_splits(splits: Sequence[SplitRequest], pipeline: str, command: Command) -> int:
    num_items, default = command.num_items, command.num_splits
    return choose_num_splits(splits, pipeline, command.name, num_items, default=default)


def check_names(pipelines: Sequence[DeclaredPipeline]) -> None:
    """Raise `BadName` or `NamesClash` unless all names are valid and unique.

    Names that differ only in case clash: some file systems do not distinguish them.
    """
    for pipeline in pipelines:
        check_pipeline_name(pipeline.name, pipeline.location)
        for command in pipeline.commands:
            check_command_name(command.name, command.location)
        _check_unique("command", pipeline.commands)
    _check_unique("pipeline", pipelines)


def _check_unique(kind: str, named: Sequence[DeclaredPipeline | Command]) -> None:
    seen: dict[str, DeclaredPipeline | Command] = {}
    for item in named:
        first = seen.setdefault(item.name.casefold(), item)
        if first is not item:
            raise NamesClash(kind, (first.name, item.name), (first.location, item.location))


def check_selected(pipelines: Sequence[DeclaredPipeline], select: Sequence[str]) -> None:
    """Raise `UnknownSelected` unless each selected command is in some pipeline."""
    names = _command_names(pipelines)
    full = tuple(f"{pipeline.name}/{c.name}" for pipeline in pipelines for c in pipeline.commands)
    for name in select:
        if name not in names and name not in full:
            raise UnknownSelected("command", name, full if "/" in name else names)


def check_splits(pipelines: Sequence[DeclaredPipeline], splits: Sequence[SplitRequest]) -> None:
    """Raise `UnknownInSplits` or `BadSplits` unless requests name existing split commands."""
    pipeline_names = tuple(pipeline.name for pipeline in pipelines)
    for request in splits:
        option = f"--splits {request}"
        if request.pipeline and request.pipeline not in pipeline_names:
            raise UnknownInSplits("pipeline", request.pipeline, pipeline_names, option)
        matching = [p for p in pipelines if request.pipeline in ("", p.name)]
        commands = _command_names(matching)
        if request.command and request.command not in commands:
            raise UnknownInSplits("command", request.command, commands, option)
        split = {c.name for pipeline in matching for c in pipeline.commands if c.is_split}
        if request.command and request.command not in split:
            raise BadSplits(str(request), f"`{request.command}` is not in `split_commands`")


def _command_names(pipelines: Sequence[DeclaredPipeline]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.name for pipeline in pipelines for c in pipeline.commands))


def explicit_needs(pipeline: DeclaredPipeline) -> Graph:
    """Return what each command needs; one that declares no needs needs the command before it."""
    commands = pipeline.commands
    before = [(), *((Need(command.name),) for command in commands[:-1])]
    return {
        command.name: previous if command.needs is None else command.needs
        for command, previous in zip(commands, before, strict=True)
    }


def sort(pipeline: str, graph: Graph) -> Graph:
    """Sort commands so that each is after those it needs, else in the order of declaration.

    Raises `Cycle`.
    """
    needed = {name: [need.command for need in needs] for name, needs in graph.items()}
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        # graphlib's path leads from a command to those that need it.
        raise Cycle(pipeline, tuple(reversed(error.args[1]))) from None
    # graphlib's own order would put all commands without needs first, far from those that need
    # them. A loop instead of recursion, because a chain may be longer than Python's stack.
    ordered: dict[str, tuple[Need, ...]] = {}
    todo = list(graph)[::-1]
    while todo:
        missing = [name for name in needed[todo[-1]] if name not in ordered]
        if missing:
            todo.extend(reversed(missing))
        else:
            name = todo.pop()
            ordered[name] = graph[name]
    return ordered


def select_from(graph: Graph, select: Sequence[str]) -> Graph:
    """Return the selected part of a sorted graph; all of it if nothing is selected.

    A selected command needs those that it needed through commands that are not selected: aligned
    only if every step of the way was.
    """
    if not select:
        return {name: merge_needs(needs) for name, needs in graph.items()}
    selected: dict[str, tuple[Need, ...]] = {}
    # What each command that is not selected passes on to those that need it.
    passed_on: dict[str, tuple[Need, ...]] = {}
    for name, needs in graph.items():
        reached = merge_needs(
            Need(far.command, far.kind if near.kind is NeedKind.ALIGNED else NeedKind.ALL)
            for near in needs
            for far in ([near] if near.command in selected else passed_on[near.command])
        )
        (selected if name in select else passed_on)[name] = reached
    return selected


def merge_needs(needs: Iterable[Need]) -> tuple[Need, ...]:
    """Keep one need per command; needing all of its splits includes an aligned need."""
    merged: dict[str, Need] = {}
    for need in needs:
        if need.command not in merged or need.kind is NeedKind.ALL:
            merged[need.command] = need
    return tuple(merged.values())


def check_aligned(
    pipeline: str, command: str, need: Need, counts: Mapping[str, int | None]
) -> None:
    """Raise `NotSplit` or `UnequalSplits` if need is aligned and the splits do not correspond."""
    if need.kind is not NeedKind.ALIGNED:
        return
    ours, theirs = counts[command], counts[need.command]
    if ours is None or theirs is None:
        unsplit = command if ours is None else need.command
        raise NotSplit(pipeline, command, need.command, unsplit)
    if ours != theirs:
        raise UnequalSplits(pipeline, command, need.command, ours, theirs)


def check_aligned_items(pipeline: str, command: Command, need: Need, needed: Command) -> None:
    """Raise `UnequalItems` if need is aligned, and the items of both do not correspond."""
    if need.kind is not NeedKind.ALIGNED:
        return
    ours, theirs = command.items, needed.items
    if ours is None and theirs is None:
        return
    without = command.name if ours is None else needed.name
    if ours is None or theirs is None:
        problem = f"but `{without}` declares none"
        fix = f"declare `items` for both, or need `{needed.name}` without `aligned`"
    elif ours.digest != theirs.digest:
        problem = f"but `{ours.field}` and `{theirs.field}` differ"
        fix = f"give both the same items, or need `{needed.name}` without `aligned`"
    else:
        return
    raise UnequalItems(pipeline, command.name, needed.name, problem, fix)


def expand(
    command: Command,
    needs: tuple[Need, ...],
    num_splits: int | None,
    code: CodeMode,
    produced: tuple[str, ...] = (),
) -> Stage:
    """Make a stage of a command; `num_splits` is None if it cannot be split."""
    return Stage(
        command=command.name,
        num_splits=num_splits,
        gpu=command.gpu,
        needs=needs,
        config_keys=command.config_keys,
        code=code if command.has_code else CodeMode.OFF,
        inputs=command.inputs,
        item_inputs=command.item_inputs,
        produced=produced,
        outputs=command.outputs,
        resources=command.resources,
        items=command.items,
    )


def idle_splits(pipelines: Sequence[DeclaredPipeline], plan: Plan) -> list[str]:
    """Return a warning for each stage that has more splits than items."""
    num_items = {(p.name, c.name): c.num_items for p in pipelines for c in p.commands}
    warnings = []
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            items, splits = num_items[pipeline.name, stage.command], stage.num_splits
            if splits is not None and items is not None and splits > items:
                warnings.append(
                    f"{pipeline.name}/{stage.command} has {count(splits, 'split')} for "
                    f"{count(items, 'item')}: {splits - items:,} will have nothing to do"
                )
    return warnings
