"""The compiler: names, needs, selection, splits."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun.errors import RvrunError
from rvrun.model import DeclaredPipeline, NeedKind
from rvrun.plan.compile import compile_plan, idle_splits
from rvrun.plan.splits import SplitRequest, parse_splits
from tests.build import edges, pipeline
from tests.strategies import declared_pipelines

RASTER = pipeline("rv", "analyze", "chip*", "train", "predict*", "eval", "bundle", gpu=["train"])


def test_each_command_needs_the_one_before() -> None:
    """Where nothing is said of needs, a command needs the one before it."""
    plan = compile_plan([RASTER], splits=parse_splits(["4", "predict=16"]))
    assert edges(plan) == {
        "rv/analyze": [],
        "rv/chip": ["analyze"],
        "rv/train": ["chip"],
        "rv/predict": ["train"],
        "rv/eval": ["predict"],
        "rv/bundle": ["eval"],
    }
    stages = plan.pipelines[0].stages
    assert [stage.num_splits for stage in stages] == [None, 4, None, 16, None, None]
    assert [stage.gpu for stage in stages] == [False, False, True, False, False, False]
    assert (plan.num_stages, plan.num_targets) == (6, 24)


def test_target_names_and_paths() -> None:
    """Targets are enumerated in order; N is in a split's path and not in its name."""
    plan = compile_plan([pipeline("tiny", "chip*", "train")], splits=parse_splits(["2"]))
    assert [(target.name, target.path) for target in plan.targets()] == [
        ("tiny/chip/0", "tiny/chip.2/0"),
        ("tiny/chip/1", "tiny/chip.2/1"),
        ("tiny/train", "tiny/train"),
    ]


def test_selection_is_put_into_pipeline_order() -> None:
    """Selected commands run in the pipeline's order, each needing the selected one before it."""
    plan = compile_plan([RASTER], ["eval", "train", "chip"])
    assert edges(plan) == {"rv/chip": [], "rv/train": ["chip"], "rv/eval": ["train"]}


def test_selection_reaches_through_what_is_left_out() -> None:
    """Needs lead through commands left out; aligned only where every step was aligned."""
    declared = pipeline(
        "p",
        "a*",
        "b*",
        "c*",
        "d*",
        needs={"a": [], "b": ["=a"], "c": ["=b"], "d": ["b", "=c"]},
    )
    assert edges(compile_plan([declared], ["a", "c"])) == {"p/a": [], "p/c": ["=a"]}
    assert edges(compile_plan([declared], ["a", "d"])) == {"p/a": [], "p/d": ["a"]}


def test_a_true_dag_keeps_declared_order() -> None:
    """Stages stand in declared order wherever needs allow it."""
    declared = pipeline(
        "p", "a", "b", "c", "d", needs={"a": ["c"], "b": [], "c": [], "d": ["a", "b"]}
    )
    assert list(edges(compile_plan([declared]))) == ["p/c", "p/a", "p/b", "p/d"]


def test_pipelines_without_selected_commands_are_left_out() -> None:
    """Only pipelines that have one of the selected commands are in the plan."""
    other = pipeline("other", "fetch")
    assert list(edges(compile_plan([RASTER, other], ["fetch"]))) == ["other/fetch"]


def test_the_most_precise_split_count_wins() -> None:
    """PIPELINE/COMMAND=N is over COMMAND=N, which is over N, in whatever order they come."""
    pipelines = [pipeline("a", "chip*", "predict*"), pipeline("b", "chip*", "predict*")]
    splits = parse_splits(["b/chip=5", "chip=3", "2"])
    counts = [
        [stage.num_splits for stage in planned.stages]
        for planned in compile_plan(pipelines, splits=splits).pipelines
    ]
    assert counts == [[3, 2], [5, 2]]


@pytest.mark.parametrize(
    ("pipelines", "select", "splits", "message"),
    [
        (
            [pipeline("p", "a", "b", "c", needs={"a": ["c"]})],
            [],
            [],
            "commands of pipeline `p` need each other: a -> c -> b -> a; a command that `needs` "
            "does not name needs the one before it in `commands`",
        ),
        (
            [pipeline("p", "a", needs={"a": ["a"]})],
            [],
            [],
            "commands of pipeline `p` need each other: a -> a; a command that `needs` does not "
            "name needs the one before it in `commands`",
        ),
        (
            [pipeline("tiny", "a", location="x.py:3"), pipeline("tiny", "b", location="x.py:9")],
            [],
            [],
            "two pipelines are named `tiny` (x.py:3 and x.py:9); give each a name of its own",
        ),
        (
            [pipeline("tiny", "a"), pipeline("Tiny", "b")],
            [],
            [],
            "two pipelines are named `Tiny`; give each a name of its own",
        ),
        (
            [pipeline("p", "a", "a")],
            [],
            [],
            "two commands are named `a`; give each a name of its own",
        ),
        (
            [RASTER],
            ["predct"],
            [],
            "unknown command `predct`, did you mean `predict`?; known: `analyze`, `chip`, "
            "`train`, `predict`, `eval`, `bundle`",
        ),
        (
            [RASTER],
            [],
            ["rw/chip=3"],
            "unknown pipeline `rw` in --splits rw/chip=3; known: `rv`",
        ),
        (
            [RASTER],
            [],
            ["chp=3"],
            "unknown command `chp` in --splits chp=3, did you mean `chip`?; known: `analyze`, "
            "`chip`, `train`, `predict`, `eval`, `bundle`",
        ),
        (
            [RASTER],
            [],
            ["train=3"],
            "--splits train=3: `train` is not one of the `split_commands`",
        ),
        (
            [pipeline("p", "a*", "b*", needs={"b": ["=a"]})],
            [],
            ["a=3"],
            "`b` of pipeline `p` needs `a` aligned, split by split, but they have 1 and 3 "
            "splits; give both the same",
        ),
        (
            [pipeline("p", "a", "b*", needs={"b": ["=a"]})],
            [],
            [],
            "`b` of pipeline `p` needs `a` aligned, split by split, but `a` is not split",
        ),
        (
            [pipeline("all", "a")],
            [],
            [],
            "pipeline name 'all' cannot be used: all, clean, done, forward, help mean something "
            "to make",
        ),
        (
            [pipeline("a b", "a")],
            [],
            [],
            "pipeline name 'a b' cannot be used: use letters a-z, digits, `.`, `_` and `-`, a "
            "letter or digit first, no `.json` last",
        ),
        (
            [pipeline("p", "größe")],
            [],
            [],
            "command name 'größe' cannot be used: use letters a-z, digits and `_`, as in a "
            "method's name",
        ),
    ],
)
def test_what_cannot_be_compiled_is_said_in_one_sentence(
    pipelines: list[DeclaredPipeline], select: list[str], splits: list[str], message: str
) -> None:
    """Each error names the value, the place and the mend."""
    with pytest.raises(RvrunError) as raised:
        compile_plan(pipelines, select, parse_splits(splits))
    assert str(raised.value) == message


def test_more_splits_than_items_is_a_warning() -> None:
    """A stage whose splits cannot all have work is warned of, and planned all the same."""
    commands = tuple(attrs.evolve(command, num_items=3) for command in RASTER.commands)
    declared = attrs.evolve(RASTER, commands=commands)
    plan = compile_plan([declared], splits=parse_splits(["predict=5"]))
    assert idle_splits([declared], plan) == [
        "rv/predict has 5 splits for 3 items: 2 will have nothing to do"
    ]


def test_long_chains_compile() -> None:
    """A chain of thousands of commands needs no recursion."""
    names = [f"c{index}" for index in range(3000)]
    plan = compile_plan([pipeline("long", *names)], names[::2])
    assert plan.num_stages == 1500


@given(declared_pipelines(), st.data())
def test_plans_hold_what_was_asked_for(
    declared: list[DeclaredPipeline], data: st.DataObject
) -> None:
    """A plan is deterministic, ordered, complete, and its needs are stages before it."""
    names = sorted({command.name for p in declared for command in p.commands})
    select = data.draw(st.lists(st.sampled_from(names), max_size=3))
    splits = (SplitRequest(count=data.draw(st.integers(1, 5))),)
    plan = compile_plan(declared, select, splits)
    assert plan == compile_plan(declared, select, splits)
    for planned in plan.pipelines:
        (source,) = (each for each in declared if each.name == planned.name)
        wanted = {c.name for c in source.commands if not select or c.name in select}
        assert {stage.command for stage in planned.stages} == wanted
        before: dict[str, int | None] = {}
        for stage in planned.stages:
            for need in stage.needs:
                assert need.command in before
                if need.kind is NeedKind.ALIGNED:
                    assert before[need.command] == stage.num_splits
            before[stage.command] = stage.num_splits
    stamps = [target.path for target in plan.targets()]
    assert len(stamps) == len(set(stamps)) == plan.num_targets


@given(declared_pipelines())
def test_selecting_keeps_the_order_of_the_whole(declared: list[DeclaredPipeline]) -> None:
    """What must come before another in the whole plan must do so in any part of it."""
    whole = compile_plan(declared)
    for planned in whole.pipelines:
        reach: dict[str, set[str]] = {}
        for stage in planned.stages:
            near = {need.command for need in stage.needs}
            reach[stage.command] = near.union(*(reach[name] for name in near))
        select = [stage.command for stage in planned.stages][::2]
        part = compile_plan([p for p in declared if p.name == planned.name], select)
        reached: dict[str, set[str]] = {}
        for stage in part.pipelines[0].stages:
            near = {need.command for need in stage.needs}
            reached[stage.command] = near.union(*(reached[name] for name in near))
        assert reached == {name: reach[name] & set(select) for name in select}
