"""Hypothesis strategies for the compiler's input and output."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from rvrun.model import (
    RESERVED,
    CodeMode,
    Command,
    DeclaredPipeline,
    Need,
    NeedKind,
    Plan,
    PlannedPipeline,
    Resources,
    Stage,
)


def _is_pipeline_name(name: str) -> bool:
    return name.casefold() not in RESERVED and not name.endswith(".json")


pipeline_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,7}", fullmatch=True).filter(
    _is_pipeline_name
)
command_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,7}", fullmatch=True)
digests = st.integers(0, 2**256 - 1).map(lambda number: f"sha256:{number:064x}")
config_keys = st.none() | st.lists(
    st.from_regex(r"[a-z_]{1,6}(\.[a-z_]{1,6})?", fullmatch=True), max_size=3, unique=True
).map(tuple)
_counts = st.none() | st.integers(1, 2**31)
resources = st.builds(
    Resources,
    vcpus=_counts,
    memory_mib=_counts,
    gpus=_counts,
    timeout_seconds=_counts,
    retries=st.none() | st.integers(1, 9),
)
_parts = st.sampled_from(("a", "*.tif", "[ab]", "**", "ä b", "s3:", "-"))
_paths = st.lists(_parts, min_size=1, max_size=3).map("/".join)
declared_paths = st.lists(_paths, max_size=2, unique=True).map(tuple)
#: Inputs of items and outputs have placeholders, and doubled braces.
declared_item_inputs = st.lists(
    st.tuples(_paths, st.sampled_from(("/{item}", "/{item.a}.{{x}}"))).map("".join), max_size=1
).map(tuple)
declared_outputs = st.lists(
    st.tuples(_paths, st.sampled_from(("", "/{split_ind}", "/{{x}}", "/{item.a}"))).map("".join),
    max_size=2,
    unique=True,
).map(tuple)
#: Few values, so that stages often have the same number of splits, as aligned needs require.
split_counts = st.sampled_from([None, 1, 2, 3, 11])


def _unique(names: SearchStrategy[str], max_size: int) -> SearchStrategy[list[str]]:
    return st.lists(names, min_size=1, max_size=max_size, unique_by=str.casefold)


@st.composite
def plans(draw: DrawFn, max_pipelines: int = 3, max_stages: int = 5) -> Plan:
    """Plans as `compile_plan` returns them: stages in order, aligned ones with equal splits."""
    names = draw(_unique(pipeline_names, max_pipelines))
    return Plan(tuple(draw(_planned_pipelines(name, max_stages)) for name in names))


@st.composite
def _planned_pipelines(draw: DrawFn, name: str, max_stages: int) -> PlannedPipeline:
    stages: list[Stage] = []
    for command in draw(_unique(command_names, max_stages)):
        num_splits = draw(split_counts)
        alignable = [
            stage.command for stage in stages if num_splits and stage.num_splits == num_splits
        ]
        stages.append(
            Stage(
                command=command,
                num_splits=num_splits,
                gpu=draw(st.booleans()),
                needs=draw(_needs([stage.command for stage in stages], alignable)),
                config_keys=draw(config_keys),
                code=draw(st.sampled_from(CodeMode)),
                inputs=draw(declared_paths),
                item_inputs=draw(declared_item_inputs),
                produced=draw(declared_paths),
                outputs=draw(declared_outputs),
                resources=draw(resources),
            )
        )
    return PlannedPipeline(name=name, config_digest=draw(digests), stages=tuple(stages))


@st.composite
def _needs(draw: DrawFn, commands: Sequence[str], alignable: Sequence[str]) -> tuple[Need, ...]:
    """Needs of some of `commands`, each once; only `alignable` ones may be aligned."""
    if not commands:
        return ()
    needed = draw(st.lists(st.sampled_from(commands), unique=True))
    aligned = [name in alignable and draw(st.booleans()) for name in needed]
    return tuple(
        Need(name, NeedKind.ALIGNED if is_aligned else NeedKind.ALL)
        for name, is_aligned in zip(needed, aligned, strict=True)
    )


@st.composite
def declared_pipelines(
    draw: DrawFn, max_pipelines: int = 3, max_commands: int = 6
) -> list[DeclaredPipeline]:
    """Pipelines that compile: acyclic, although needs may contradict the order of declaration.

    Aligned needs are between split commands, so they also compile if all get the same number of
    splits.
    """
    names = draw(_unique(pipeline_names, max_pipelines))
    return [draw(_declared_pipelines(name, max_commands)) for name in names]


@st.composite
def _declared_pipelines(draw: DrawFn, name: str, max_commands: int) -> DeclaredPipeline:
    names = draw(_unique(command_names, max_commands))
    split = [draw(st.booleans()) for _ in names]
    # A command may only need those of lower rank, so that there can be no cycle.
    declared = list(range(len(names)))
    ranks = declared if draw(st.booleans()) else draw(st.permutations(declared))
    commands = []
    for i, command in enumerate(names):
        lower = [j for j in declared if ranks[j] < ranks[i]]
        alignable = [names[j] for j in lower if split[i] and split[j]]
        needs = _needs([names[j] for j in lower], alignable)
        follows = i == 0 or ranks[i - 1] < ranks[i]
        commands.append(
            Command(
                name=command,
                is_split=split[i],
                gpu=draw(st.booleans()),
                needs=draw(st.none() | needs if follows else needs),
                config_keys=draw(config_keys),
                resources=draw(resources),
                num_items=draw(st.none() | st.integers(0, 20)) if split[i] else None,
            )
        )
    return DeclaredPipeline(name=name, config_digest=draw(digests), commands=tuple(commands))
