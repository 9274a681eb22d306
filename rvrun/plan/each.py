"""Commands that know their items only if there is one split per item. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from rvrun.model import Command, DeclaredPipeline
from rvrun.plan.splits import SplitRequest, choose_num_splits


def with_items(pipeline: DeclaredPipeline, splits: Sequence[SplitRequest]) -> DeclaredPipeline:
    """Return the pipeline with the commands as they are with the requested numbers of splits.

    With any other number of splits than that of its items, such a command has no items: only its
    own system knows which of them a split does.
    """
    commands = _choose(pipeline.name, pipeline.commands, splits)
    return attrs.evolve(pipeline, commands=tuple(commands))


def _choose(
    pipeline: str, commands: Iterable[Command], splits: Sequence[SplitRequest]
) -> Iterable[Command]:
    for command in commands:
        if command.if_each is None:
            yield command
            continue
        number, default = command.num_items, command.num_splits
        count = choose_num_splits(splits, pipeline, command.name, number, default=default)
        yield command.if_each if count == number else command
