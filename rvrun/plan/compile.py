"""Commands as the user wrote them, compiled to a plan.

    check names     pipelines are unique and can be named in files and targets
    check requests  selected commands and split counts speak of what exists
    order           needs made explicit, cycles refused, a stable topological order
    select          the commands asked for; needs reach through those left out
    expand          split counts; aligned needs checked against them

Pure: no clock, no environment, no files. The order in which the user declared things breaks
every tie, so that the same input gives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rvrun.errors import RvrunError, check_known
from rvrun.model import (
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
from rvrun.plan.splits import BadSplits, SplitRequest, num_splits

#: What each command needs, by its name; in the order in which commands are declared.
Graph = Mapping[str, tuple[Need, ...]]


class NamesClash(RvrunError):
    """Two pipelines (or commands of one) that would share targets and files."""

    def __init__(self, kind: str, name: str, first: str, second: str) -> None:
        self.kind = kind
        self.name = name
        self.first = first
        self.second = second

    def __str__(self) -> str:
        both = f" ({self.first} and {self.second})" if self.first and self.second else ""
        return f"two {self.kind}s are named `{self.name}`{both}; give each a name of its own"


class Cycle(RvrunError):
    """Commands that need each other; `path` begins and ends with the same one."""

    def __init__(self, pipeline: str, path: tuple[str, ...]) -> None:
        self.pipeline = pipeline
        self.path = path

    def __str__(self) -> str:
        path = " -> ".join(self.path)
        return (
            f"commands of pipeline `{self.pipeline}` need each other: {path}; a command that "
            "`needs` does not name needs the one before it in `commands`"
        )


class NotAligned(RvrunError):
    """An aligned need between stages that are not equally split."""

    def __init__(self, pipeline: str, command: str, needed: str, problem: str) -> None:
        self.pipeline = pipeline
        self.command = command
        self.needed = needed
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"`{self.command}` of pipeline `{self.pipeline}` needs `{self.needed}` aligned, "
            f"split by split, but {self.problem}"
        )


def compile_plan(
    pipelines: Sequence[DeclaredPipeline],
    select: Sequence[str] = (),
    splits: Sequence[SplitRequest] = (),
) -> Plan:
    """The plan of `pipelines`, for the commands in `select` (empty: all) split as asked.

    A pipeline that has none of the selected commands is left out. Raises the `RvrunError` that
    says what is wrong with names, needs, selection or splits.
    """
    check_names(pipelines)
    check_selected(pipelines, select)
    check_splits(pipelines, splits)
    planned = (plan_pipeline(pipeline, select, splits) for pipeline in pipelines)
    return Plan(tuple(pipeline for pipeline in planned if pipeline.stages))


def plan_pipeline(
    pipeline: DeclaredPipeline, select: Sequence[str], splits: Sequence[SplitRequest]
) -> PlannedPipeline:
    """The stages of one pipeline."""
    graph = select_from(sort(pipeline.name, explicit_needs(pipeline)), select)
    commands = {command.name: command for command in pipeline.commands}
    counts = {
        name: num_splits(splits, pipeline.name, name) if commands[name].is_split else None
        for name in graph
    }
    for name, needs in graph.items():
        for need in needs:
            check_aligned(pipeline.name, name, need, counts)
    stages = (expand(commands[name], needs, counts[name]) for name, needs in graph.items())
    return PlannedPipeline(
        name=pipeline.name, config_digest=pipeline.config_digest, stages=tuple(stages)
    )


def check_names(pipelines: Sequence[DeclaredPipeline]) -> None:
    """Names are usable and unique, also where the file system does not tell `a` from `A`."""
    seen: dict[str, DeclaredPipeline] = {}
    for pipeline in pipelines:
        check_pipeline_name(pipeline.name, pipeline.location)
        first = seen.setdefault(pipeline.name.casefold(), pipeline)
        if first is not pipeline:
            raise NamesClash("pipeline", pipeline.name, first.location, pipeline.location)
        _check_command_names(pipeline)


def _check_command_names(pipeline: DeclaredPipeline) -> None:
    seen: dict[str, Command] = {}
    for command in pipeline.commands:
        check_command_name(command.name)
        first = seen.setdefault(command.name.casefold(), command)
        if first is not command:
            raise NamesClash("command", command.name, first.location, command.location)


def check_selected(pipelines: Sequence[DeclaredPipeline], select: Sequence[str]) -> None:
    """Each selected command is one of some pipeline."""
    known = _command_names(pipelines)
    for name in select:
        check_known("command", name, known)


def check_splits(pipelines: Sequence[DeclaredPipeline], splits: Sequence[SplitRequest]) -> None:
    """Each request speaks of a split command that exists."""
    for request in splits:
        place = f"--splits {request}"
        if request.pipeline:
            known = tuple(pipeline.name for pipeline in pipelines)
            check_known("pipeline", request.pipeline, known, place)
        concerned = [p for p in pipelines if request.pipeline in ("", p.name)]
        if request.command:
            check_known("command", request.command, _command_names(concerned), place)
            if not _splittable(concerned, request.command):
                raise BadSplits(
                    str(request), f"`{request.command}` is not one of the `split_commands`"
                )


def _command_names(pipelines: Sequence[DeclaredPipeline]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.name for pipeline in pipelines for c in pipeline.commands))


def _splittable(pipelines: Sequence[DeclaredPipeline], name: str) -> bool:
    return any(c.is_split for pipeline in pipelines for c in pipeline.commands if c.name == name)


def explicit_needs(pipeline: DeclaredPipeline) -> Graph:
    """What each command needs, where nothing is said the one before it."""
    commands = pipeline.commands
    before = [(), *((Need(command.name),) for command in commands[:-1])]
    return {
        command.name: previous if command.needs is None else command.needs
        for command, previous in zip(commands, before, strict=True)
    }


def sort(pipeline: str, graph: Graph) -> Graph:
    """`graph` with each command after all it needs, else as declared. Raises `Cycle`.

    A depth-first search without recursion, so that a chain may be long.
    """
    done: dict[str, tuple[Need, ...]] = {}
    for root in graph:
        path: list[str] = []
        todo = [root]
        while todo:
            name = todo[-1]
            if name in done:
                todo.pop()
            elif path and path[-1] == name:
                done[name] = graph[name]
                path.pop()
                todo.pop()
            else:
                path.append(name)
                missing = [n.command for n in graph[name] if n.command not in done]
                _check_acyclic(pipeline, path, missing)
                todo.extend(reversed(missing))
    return done


def _check_acyclic(pipeline: str, path: list[str], needed: list[str]) -> None:
    for name in needed:
        if name in path:
            raise Cycle(pipeline, (*path[path.index(name) :], name))


def select_from(graph: Graph, select: Sequence[str]) -> Graph:
    """The selected part of a sorted `graph`.

    Where a command left out stands between two selected ones, the later needs the earlier as it
    did through it: aligned only where every step between was.
    """
    if not select:
        return {name: merge_needs(needs) for name, needs in graph.items()}
    selected: dict[str, tuple[Need, ...]] = {}
    through: dict[str, tuple[Need, ...]] = {}
    for name, needs in graph.items():
        reached = merge_needs(
            Need(far.command, far.kind if near.kind is NeedKind.ALIGNED else NeedKind.ALL)
            for near in needs
            for far in (
                [Need(near.command, near.kind)]
                if near.command in selected
                else through[near.command]
            )
        )
        if name in select:
            selected[name] = reached
        else:
            through[name] = reached
    return selected


def merge_needs(needs: Iterable[Need]) -> tuple[Need, ...]:
    """Each needed command once; needing all of it includes needing a part."""
    merged: dict[str, Need] = {}
    for need in needs:
        if need.command not in merged or need.kind is NeedKind.ALL:
            merged[need.command] = need
    return tuple(merged.values())


def check_aligned(
    pipeline: str, command: str, need: Need, counts: Mapping[str, int | None]
) -> None:
    """An aligned need is between two stages split into equally many parts."""
    if need.kind is not NeedKind.ALIGNED:
        return
    mine, theirs = counts[command], counts[need.command]
    for name, count in ((command, mine), (need.command, theirs)):
        if count is None:
            raise NotAligned(pipeline, command, need.command, f"`{name}` is not split")
    if mine != theirs:
        problem = f"they have {mine} and {theirs} splits; give both the same"
        raise NotAligned(pipeline, command, need.command, problem)


def expand(command: Command, needs: tuple[Need, ...], count: int | None) -> Stage:
    """`command` as a stage of `count` splits."""
    return Stage(
        command=command.name,
        num_splits=count,
        gpu=command.gpu,
        needs=needs,
        config_keys=command.config_keys,
        resources=command.resources,
    )


def idle_splits(pipelines: Sequence[DeclaredPipeline], plan: Plan) -> list[str]:
    """A warning for each stage that has more splits than items to share out."""
    items = {(p.name, c.name): c.num_items for p in pipelines for c in p.commands}
    warnings = []
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            known = items[pipeline.name, stage.command]
            if stage.num_splits and known is not None and stage.num_splits > known:
                warnings.append(
                    f"{pipeline.name}/{stage.command} has {stage.num_splits} splits for "
                    f"{known} items: {stage.num_splits - known} will have nothing to do"
                )
    return warnings
