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


def test_a_command_needs_the_one_before_it_by_default() -> None:
    """Without declared needs, the commands of a pipeline run one after another."""
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
    """Targets are in order; the number of splits is part of a split's path, not of its name."""
    plan = compile_plan([pipeline("tiny", "chip*", "train")], splits=parse_splits(["2"]))
    assert [(target.name, target.path) for target in plan.targets()] == [
        ("tiny/chip/0", "tiny/chip.2/0"),
        ("tiny/chip/1", "tiny/chip.2/1"),
        ("tiny/train", "tiny/train"),
    ]


def test_selected_commands_run_in_pipeline_order() -> None:
    """Each needs the selected command before it, whatever the order of selection."""
    plan = compile_plan([RASTER], ["eval", "train", "chip"])
    assert edges(plan) == {"rv/chip": [], "rv/train": ["chip"], "rv/eval": ["train"]}


def test_needs_reach_through_commands_that_are_not_selected() -> None:
    """The need is aligned only if every step of the way is aligned."""
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


def test_a_graph_with_branches_keeps_the_declared_order() -> None:
    """Stages are in the order of declaration as far as needs allow."""
    declared = pipeline(
        "p", "a", "b", "c", "d", needs={"a": ["c"], "b": [], "c": [], "d": ["a", "b"]}
    )
    assert list(edges(compile_plan([declared]))) == ["p/c", "p/a", "p/b", "p/d"]


def test_pipelines_without_selected_commands_are_omitted() -> None:
    """The plan has only pipelines with at least one selected command."""
    other = pipeline("other", "fetch")
    assert list(edges(compile_plan([RASTER, other], ["fetch"]))) == ["other/fetch"]


def test_the_most_specific_split_count_wins() -> None:
    """PIPELINE/COMMAND=N overrides COMMAND=N, which overrides N, in any order."""
    pipelines = [pipeline("a", "chip*", "predict*"), pipeline("b", "chip*", "predict*")]
    splits = parse_splits(["b/chip=5", "chip=3", "2"])
    counts = [
        [stage.num_splits for stage in planned.stages]
        for planned in compile_plan(pipelines, splits=splits).pipelines
    ]
    assert counts == [[3, 2], [5, 2]]


@pytest.mark.parametrize(
    ("pipelines", "select", "splits", "message", "fix"),
    [
        (
            [pipeline("p", "a", "b", "c", needs={"a": ["c"]})],
            [],
            [],
            "needs of pipeline `p` must not form a cycle, got a -> c -> b -> a; a command without "
            "an entry in `needs` needs the command before it in `commands`",
            "change `needs` of one of these commands to break the cycle",
        ),
        (
            [pipeline("p", "a", needs={"a": ["a"]})],
            [],
            [],
            "needs of pipeline `p` must not form a cycle, got a -> a; a command without an entry "
            "in `needs` needs the command before it in `commands`",
            "change `needs` of one of these commands to break the cycle",
        ),
        (
            [pipeline("p", "a", "b", "c", "d", needs={"b": ["a", "c"], "d": []})],
            [],
            [],
            "needs of pipeline `p` must not form a cycle, got b -> c -> b; a command without an "
            "entry in `needs` needs the command before it in `commands`",
            "change `needs` of one of these commands to break the cycle",
        ),
        (
            [pipeline("tiny", "a", location="x.py:3"), pipeline("tiny", "b", location="x.py:9")],
            [],
            [],
            "pipeline names must be unique, ignoring case, got `tiny` (x.py:3) and `tiny` "
            '(x.py:9); give one of the two configs another name, such as `name="tiny-2"`',
            'give one of the two configs another name, such as `name="tiny-2"`',
        ),
        (
            [pipeline("tiny", "a"), pipeline("Tiny", "b")],
            [],
            [],
            "pipeline names must be unique, ignoring case, got `tiny` and `Tiny`; give one of the "
            'two configs another name, such as `name="Tiny-2"`',
            'give one of the two configs another name, such as `name="Tiny-2"`',
        ),
        (
            [pipeline("p", "a", "a")],
            [],
            [],
            "command names must be unique, ignoring case, got `a` and `a`; rename one of the two "
            "commands",
            "rename one of the two commands",
        ),
        (
            [RASTER],
            ["predct"],
            [],
            "unknown command `predct`; did you mean `predict`? Known commands: `analyze`, `chip`, "
            "`train`, `predict`, `eval`, `bundle`",
            "select one of: analyze, chip, train, predict, eval, bundle",
        ),
        (
            [RASTER],
            [],
            ["rw/chip=3"],
            "unknown pipeline `rw` in --splits rw/chip=3; known pipelines: `rv`",
            "change --splits rw/chip=3 to name an existing pipeline",
        ),
        (
            [RASTER],
            [],
            ["chp=3"],
            "unknown command `chp` in --splits chp=3; did you mean `chip`? Known commands: "
            "`analyze`, `chip`, `train`, `predict`, `eval`, `bundle`",
            "change --splits chp=3 to name an existing command",
        ),
        (
            [RASTER],
            [],
            ["train=3"],
            "--splits train=3: `train` is not in `split_commands`",
            "change --splits train=3",
        ),
        (
            [pipeline("p", "a*", "b*", needs={"b": ["=a"]})],
            [],
            ["a=3"],
            "`b` of pipeline `p` needs `a` aligned, so both must have the same number of splits, "
            "got 1 and 3",
            "change --splits to give `b` and `a` the same number",
        ),
        (
            [pipeline("p", "a", "b*", needs={"b": ["=a"]})],
            [],
            [],
            "`b` of pipeline `p` needs `a` aligned, so both must be in `split_commands`, but `a` "
            "is not",
            "add `a` to `split_commands`, or need `a` without `aligned`",
        ),
        (
            [pipeline("all", "a")],
            [],
            [],
            "a pipeline name must not be one of all, clean, done, forward, help, which the "
            "Makefile uses, got 'all'",
            "rename the pipeline 'all'",
        ),
        (
            [pipeline("a b", "a")],
            [],
            [],
            "a pipeline name must contain only ASCII letters, digits, `.`, `_` and `-`, start "
            "with a letter or digit, and not end with `.json`, got 'a b'",
            "rename the pipeline 'a b'",
        ),
        (
            [pipeline("p", "größe")],
            [],
            [],
            "a command name must contain only ASCII letters, digits, `_` and `-`, and start with "
            "a letter or `_`, got 'größe'",
            "rename the command 'größe'",
        ),
    ],
)
def test_invalid_input_is_one_sentence_with_a_fix(
    pipelines: list[DeclaredPipeline],
    select: list[str],
    splits: list[str],
    message: str,
    fix: str,
) -> None:
    """Each error has the rule, the value and its place; `rvrun check` adds the fix."""
    with pytest.raises(RvrunError) as raised:
        compile_plan(pipelines, select, parse_splits(splits))
    assert (message, fix) == (str(raised.value), raised.value.how_to_fix())


def test_more_splits_than_items_is_a_warning() -> None:
    """A stage with splits that will have nothing to do is planned, with a warning."""
    commands = tuple(attrs.evolve(command, num_items=3) for command in RASTER.commands)
    declared = attrs.evolve(RASTER, commands=commands)
    plan = compile_plan([declared], splits=parse_splits(["predict=5"]))
    assert idle_splits([declared], plan) == [
        "rv/predict has 5 splits for 3 items: 2 will have nothing to do"
    ]


def test_long_chains_compile() -> None:
    """A chain of thousands of commands does not exceed the recursion limit."""
    names = [f"c{index}" for index in range(3000)]
    plan = compile_plan([pipeline("long", *names)], names[::2])
    assert plan.num_stages == 1500


@given(declared_pipelines(), st.data())
def test_a_plan_has_the_requested_stages(
    declared: list[DeclaredPipeline], data: st.DataObject
) -> None:
    """A plan is deterministic and complete, and each stage is after the stages it needs."""
    names = sorted({command.name for p in declared for command in p.commands})
    select = data.draw(st.lists(st.sampled_from(names), max_size=3))
    splits = (SplitRequest(count=data.draw(st.integers(1, 5))),)
    plan = compile_plan(declared, select, splits)
    assert plan == compile_plan(declared, select, splits)
    for planned in plan.pipelines:
        (source,) = (p for p in declared if p.name == planned.name)
        expected = {c.name for c in source.commands if not select or c.name in select}
        assert {stage.command for stage in planned.stages} == expected
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
def test_selected_commands_keep_their_order(declared: list[DeclaredPipeline]) -> None:
    """A command that must run before another in the whole plan must do so in every part of it."""
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
