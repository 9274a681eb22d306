"""A plan as a Makefile: what each rule says, as values for `Makefile.j2` to lay out."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from rvrun import __version__, paths
from rvrun.model import CONFIG, NUM_SPLITS, SPLIT_IND, NeedKind, Plan, PlannedPipeline, Stage
from rvrun.render.jinja import Template
from rvrun.render.jinja import render as render_template
from rvrun.render.quote import for_recipe
from rvrun.runners.run import Run
from rvrun.text import title

TEMPLATE = Template("rvrun.templates", "local", "Makefile.j2")


@attrs.frozen(kw_only=True)
class Rule:
    """One stage's rule.

    - `goal`: what is typed after make; `stamp`: the file that is newer once the stage is done.
    - `folder`: of its splits' stamps; None, like `num_splits`, for a command never split.
    - `recipe`: its command line, quoted for shell and make, with `$*` for the split's index.
    """

    goal: str
    stamp: str
    folder: str | None
    num_splits: int | None
    prerequisites: tuple[str, ...]
    recipe: str


@attrs.frozen(kw_only=True)
class Section:
    """The rules of one pipeline."""

    name: str
    title: str
    rules: tuple[Rule, ...]


def render(run: Run) -> dict[str, str]:
    """Return the Makefile of a run, by its path in the run directory."""
    makefile = render_makefile(
        run.plan,
        out=run.out,
        workdir=run.workdir_from_run_dir,
        templates=run.settings.templates,
    )
    return {paths.MAKEFILE: makefile}


def render_makefile(
    plan: Plan, *, out: str = ".", workdir: str = ".", templates: str | None = None
) -> str:
    """The Makefile of `plan`.

    - `out`: the run directory, relative to the directory where commands run.
    - `workdir`: the directory where commands run, relative to the run directory.
    - `templates`: a folder of the user's with a `Makefile.j2` of its own.
    """
    sections = tuple(section(pipeline, out) for pipeline in plan.pipelines)
    counts = {s.num_splits for p in plan.pipelines for s in p.stages if s.num_splits}
    return render_template(
        TEMPLATE,
        templates,
        version=__version__,
        title=title(plan),
        pipelines=sections,
        indices={count: " ".join(map(str, range(count))) for count in sorted(counts)},
        help=help_lines(sections),
        workdir=workdir,
    )


def section(pipeline: PlannedPipeline, out: str) -> Section:
    """The rules of `pipeline`, whose run directory is `out`."""
    by_command = {stage.command: stage for stage in pipeline.stages}
    rules = (rule(pipeline.name, stage, by_command, out) for stage in pipeline.stages)
    return Section(name=pipeline.name, title=title(Plan((pipeline,))), rules=tuple(rules))


def rule(pipeline: str, stage: Stage, stages: Mapping[str, Stage], out: str) -> Rule:
    """The rule of one stage; `stages` are all of its pipeline, by command."""
    return Rule(
        goal=f"{pipeline}/{stage.command}",
        stamp=stage.stamp(pipeline),
        folder=stage.stamps_folder(pipeline),
        num_splits=stage.num_splits,
        prerequisites=prerequisites(pipeline, stage, stages),
        recipe=recipe(stage, f"{out}/{paths.config(pipeline)}"),
    )


def prerequisites(pipeline: str, stage: Stage, stages: Mapping[str, Stage]) -> tuple[str, ...]:
    """The files that must not be newer than the stamps of `stage`."""
    needed = []
    for need in stage.needs:
        other = stages[need.command]
        if need.kind is NeedKind.ALIGNED:
            needed.append(f"{other.stamps_folder(pipeline)}/%")
        else:
            needed.append(other.stamp(pipeline))
    return (*needed, stage.config_file(pipeline))


def recipe(stage: Stage, config: str) -> str:
    """The command line of a stage's targets."""
    said = {
        "rvrun": "$(RVRUN)",
        CONFIG: for_recipe(config),
        SPLIT_IND: "$*",
        NUM_SPLITS: str(stage.num_splits),
    }
    return " ".join(said[word] if word in said else for_recipe(word) for word in stage.argv)


def help_lines(sections: tuple[Section, ...]) -> list[str]:
    """What `make help` prints."""
    lines = [
        ("make -j8", "run what is missing or out of date, 8 targets at a time"),
        ("make -n", "only show it"),
        ("make -k", "go on with what does not depend on a failed target"),
        ("make clean", "forget what was done, and its records and logs"),
    ]
    goals = [(f"make {s.name}", "a pipeline") for s in sections]
    stages = [
        (f"make {rule.goal}", "a stage and what it needs") for s in sections for rule in s.rules
    ]
    split = [rule for s in sections for rule in s.rules if rule.num_splits]
    one = [(f"make {rule.goal}/0", f"split 0 of {rule.num_splits}") for rule in split[:1]]
    rows = [*lines, ("", ""), *goals, *stages, *one]
    width = max(len(typed) for typed, _ in rows)
    return [f"{typed:{width}}  {what}".rstrip() for typed, what in rows]
