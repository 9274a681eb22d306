"""Selecting stages: up to one, from one on, and those that a change affects."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from rvrun.errors import UnknownName
from rvrun.model import DeclaredPipeline, Plan
from rvrun.pipelines.config_keys import narrow
from rvrun.pipelines.serialize import digest
from rvrun.plan.compile import UnknownSelected, compile_plan
from rvrun.plan.diff import Side, diff_plans
from rvrun.plan.select import affected, find_stages, select_range, stage_names
from rvrun.plan.splits import parse_splits
from tests.build import pipeline

#: a → b → d, and a → c → e; f depends on nothing.
GRAPH = pipeline(
    "p", "a", "b*", "c", "d", "e", "f", needs={"c": ["a"], "d": ["b"], "e": ["c"], "f": []}
)
PLAN = compile_plan([GRAPH, pipeline("q", "a", "g")])


@pytest.mark.parametrize(
    ("until", "start", "selected"),
    [
        (["p/d"], [], "p/a p/b p/d"),
        ([], ["c"], "p/c p/e"),
        (["d"], ["p/a"], "p/a p/b p/d"),
        (["a"], [], "p/a q/a"),
        ([], ["a"], "p/a p/b p/c p/d p/e q/a q/g"),
        (["d", "e"], ["b", "c"], "p/b p/c p/d p/e"),
        (["d"], ["c"], ""),
    ],
)
def test_a_range_of_stages(until: list[str], start: list[str], selected: str) -> None:
    """In the order of the plan, by command or by full name."""
    assert select_range(PLAN, until, start) == tuple(selected.split())


def test_an_unknown_stage_is_refused() -> None:
    """The message names the option and the stages."""
    with pytest.raises(UnknownName) as caught:
        find_stages(PLAN, "bb", "--until")
    assert str(caught.value) == (
        "unknown stage `bb` in --until; did you mean `b`? Known stages: "
        "`a`, `b`, `c`, `d`, `e`, `f`, `g`"
    )
    with pytest.raises(UnknownName, match="unknown stage `p/g` in --from"):
        find_stages(PLAN, "p/g", "--from")


def test_commands_are_selected_by_full_name() -> None:
    """`p/a` is only that of one pipeline; `a` is that of each."""
    assert stage_names(compile_plan([GRAPH, pipeline("q", "a", "g")], ["p/a"])) == ("p/a",)
    both = compile_plan([GRAPH, pipeline("q", "a", "g")], ["a", "q/g"])
    assert stage_names(both) == ("p/a", "q/a", "q/g")
    with pytest.raises(UnknownSelected, match="unknown command `q/b`"):
        compile_plan([GRAPH, pipeline("q", "a", "g")], ["q/b"])


KEYS = ("x", "y", "z")


def random_pipeline(rng: random.Random) -> DeclaredPipeline:
    """Up to eight commands with random needs, splits and config keys."""
    names = [f"c{number}" for number in range(rng.randint(1, 8))]
    needs = {name: rng.sample(names[:i], rng.randint(0, min(i, 3))) for i, name in enumerate(names)}
    marked = [f"{name}*" if rng.random() < 0.5 else name for name in names]
    made = pipeline("p", *marked, needs=needs)
    return with_keys(made, {name: random_keys(rng) for name in names})


def random_keys(rng: random.Random) -> tuple[str, ...] | None:
    return None if rng.random() < 0.2 else tuple(rng.sample(KEYS, rng.randint(0, 2)))


def with_keys(
    declared: DeclaredPipeline, keys: Mapping[str, tuple[str, ...] | None]
) -> DeclaredPipeline:
    commands = (attrs.evolve(c, config_keys=keys[c.name]) for c in declared.commands)
    return attrs.evolve(declared, commands=tuple(commands))


def changed(rng: random.Random, old: DeclaredPipeline) -> DeclaredPipeline:
    """The same pipeline after a few edits: commands added, keys changed."""
    names = [command.name for command in old.commands]
    edited = {c.name: c.config_keys for c in old.commands}
    if rng.random() < 0.3:
        edited[rng.choice(names)] = random_keys(rng)
    new = with_keys(old, edited)
    if rng.random() < 0.3:
        extra = pipeline("p", "new", needs={"new": [rng.choice(names)]}).commands
        new = attrs.evolve(new, commands=(*new.commands, *extra))
    if rng.random() < 0.2 and len(names) > 1:
        new = attrs.evolve(new, commands=tuple(c for c in new.commands if c.name != names[-1]))
        kept = {c.name for c in new.commands}
        commands = (
            attrs.evolve(c, needs=tuple(n for n in c.needs or () if n.command in kept))
            for c in new.commands
        )
        new = attrs.evolve(new, commands=tuple(commands))
    return new


def side(declared: DeclaredPipeline, config: Mapping[str, Any], splits: int) -> Side:
    plan = compile_plan(
        [attrs.evolve(declared, config_digest=digest(config))], splits=parse_splits([str(splits)])
    )
    return Side(plan=plan, configs={"p": dict(config)})


def affected_by_hand(old: Side, new: Side) -> set[str]:
    """The definition, without the code of `diff`: what differs, and whatever needs it."""
    before = {stage.command: stage for stage in old.plan.pipelines[0].stages}
    reached: set[str] = set()
    for stage in new.plan.pipelines[0].stages:
        earlier = before.get(stage.command)
        parts = [
            dict(s.configs["p"])
            if stage.config_keys is None
            else narrow(s.configs["p"], stage.config_keys)
            for s in (old, new)
        ]
        is_same = (
            earlier is not None
            and earlier.num_splits == stage.num_splits
            and earlier.config_keys == stage.config_keys
            and parts[0] == parts[1]
        )
        if not is_same or reached & {need.command for need in stage.needs}:
            reached.add(stage.command)
    return {f"p/{command}" for command in reached}


def test_affected_stages_are_those_of_the_difference() -> None:
    """On 1,000 random pairs of plans: what `diff` lists, by hand, and as compiled."""
    sizes = []
    for seed in range(1000):
        rng = random.Random(seed)
        before = random_pipeline(rng)
        after = changed(rng, before) if rng.random() < 0.8 else before
        config = {"root_uri": "out", **{key: rng.randint(0, 3) for key in KEYS}}
        edited = {**config, **({rng.choice(KEYS): 9} if rng.random() < 0.5 else {})}
        splits = rng.choice([(2, 2), (2, 2), (2, 3)])
        old, new = side(before, config, splits[0]), side(after, edited, splits[1])
        names = affected(new.plan, diff_plans(old, new))
        assert set(names) == affected_by_hand(old, new), seed
        if names:
            request = parse_splits([str(splits[1])])
            selected: Plan = compile_plan([after], names, request)
            assert stage_names(selected) == names
        sizes.append(len(names) / len(stage_names(new.plan)))
    # Both extremes, and much in between, or the test would prove little.
    assert min(sizes) == 0
    assert max(sizes) == 1
    assert sum(0 < size < 1 for size in sizes) > 200
