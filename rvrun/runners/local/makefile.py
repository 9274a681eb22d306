"""Render a plan as a Makefile: this module makes the values, `Makefile.j2` lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from rvrun import __version__, paths
from rvrun.model import CONFIG, NUM_SPLITS, SPLIT_IND, NeedKind, Plan, PlannedPipeline, Stage
from rvrun.patterns import NUM_SPLITS as SPLIT_COUNT
from rvrun.patterns import SPLIT_IND as SPLIT_INDEX
from rvrun.patterns import fill, is_per_item, is_per_split, is_plain, own_files, seen_from
from rvrun.render.jinja import Template
from rvrun.render.jinja import render as render_template
from rvrun.render.quote import for_recipe
from rvrun.runners.run import Run
from rvrun.text import count

#: How many prerequisites the splits of a stage may have for its input files.
MAX_PREREQUISITES = 100_000
#: Stands for the index of a split in a path until it is known that make can have it as it is.
MARK = "rvrun_split_index"
TEMPLATE = Template("rvrun.templates", "local", "Makefile.j2")


@attrs.frozen(kw_only=True)
class Rule:
    """The rule of a stage.

    - `goal`: what users type after `make`.
    - `stamp`: the file whose modification time is when the stage was done.
    - `folder`: that of the splits' stamps; None, like `num_splits`, for a command that is never
      split.
    - `gone`: what make looks for: the outputs, and which stamps count for nothing without them.
    - `items`: the list of its items, which the stamp depends on, too; None if it declares none.
    - `arguments`: the end of the command line, after the config; `$*` is the split's index.
    """

    goal: str
    stamp: str
    folder: str | None
    num_splits: int | None
    prerequisites: tuple[str, ...]
    gone: Gone | None
    items: str | None
    arguments: str


@attrs.frozen(kw_only=True)
class Gone:
    """The outputs of a stage that make can look for, as make functions that are empty without them.

    - `own`: of each target; `$(i)` is the index of a split. Empty if there are none.
    - `shared`: those that all splits of a stage write together.
    """

    own: str
    shared: str


@attrs.frozen(kw_only=True)
class Section:
    """The rules of a pipeline.

    - `run`: the start of the command line of its recipes, up to and including the config.
    - `root`: a command line that fails if the pipeline's root was removed; empty if there is none.
    """

    name: str
    title: str
    run: str
    root: str
    rules: tuple[Rule, ...]


def render(run: Run) -> dict[str, str]:
    """Return the Makefile of a run, by its path in the run directory."""
    makefile = render_makefile(
        run.plan,
        out=run.out,
        workdir=run.workdir_from_run_dir,
        templates=run.settings.templates,
        root_files={p.name: p.root_file for p in run.planned if p.root_file},
    )
    return {paths.MAKEFILE: makefile}


def render_makefile(
    plan: Plan,
    *,
    out: str = ".",
    workdir: str = ".",
    templates: str | None = None,
    root_files: Mapping[str, str] | None = None,
) -> str:
    """Render the Makefile of `plan`.

    - `out`: the run directory, relative to the directory where commands run.
    - `workdir`: the directory where commands run, relative to the run directory.
    - `templates`: a folder whose `Makefile.j2`, if any, replaces the built-in one.
    - `root_files`: files, by pipeline, without which nothing of the pipeline is done.

    Raises `BadTemplate` or `Unquotable`.
    """
    counts = {s.num_splits for p in plan.pipelines for s in p.stages if s.num_splits}
    return render_template(
        TEMPLATE,
        templates,
        version=__version__,
        title=plan.title,
        pipelines=tuple(
            section(pipeline, out, workdir, (root_files or {}).get(pipeline.name))
            for pipeline in plan.pipelines
        ),
        inputs=all_input_files(plan, workdir),
        looks_for_outputs=any(find_gone(s, workdir) for p in plan.pipelines for s in p.stages),
        has_items=plan.has_items,
        indices={count: " ".join(map(str, range(count))) for count in sorted(counts)},
        help=help_lines(plan),
    )


def section(pipeline: PlannedPipeline, out: str, workdir: str, root_file: str | None) -> Section:
    """Return the rules of `pipeline`; `root_file` is as in `LoadedPipeline`."""
    stages = {stage.command: stage for stage in pipeline.stages}
    start, _ = _split_argv(pipeline.stages[0])
    words = {"rvrun": "$(RVRUN)", CONFIG: for_recipe(f"{out}/{paths.config(pipeline.name)}")}
    # `./` keeps `cd` from taking a name such as `-x` for an option, and from searching CDPATH.
    folder = workdir if workdir.split("/", maxsplit=1)[0] in ("", ".", "..") else f"./{workdir}"
    go = f"cd {for_recipe(folder)} &&"
    # `exec` makes the target a child of make: a shell between them would not pass SIGTERM on.
    run = f"{go} exec {_command_line(start, words)}"
    rules = tuple(rule(pipeline.name, stage, stages, workdir) for stage in pipeline.stages)
    return Section(
        name=pipeline.name,
        title=Plan((pipeline,)).title,
        run=run,
        root=f"{go} test -e {for_recipe(root_file)}" if root_file else "",
        rules=rules,
    )


def rule(pipeline: str, stage: Stage, stages: Mapping[str, Stage], workdir: str) -> Rule:
    """Return the rule of a stage.

    - `stages`: all stages of its pipeline, by command. `workdir`: as in `render_makefile`.
    """
    _, end = _split_argv(stage)
    return Rule(
        goal=f"{pipeline}/{stage.command}",
        stamp=stage.stamp(pipeline),
        folder=stage.stamps_folder(pipeline),
        num_splits=stage.num_splits,
        prerequisites=prerequisites(pipeline, stage, stages, workdir),
        gone=find_gone(stage, workdir),
        items=stage.items_file(pipeline),
        arguments=_command_line(end, {SPLIT_IND: "$*", NUM_SPLITS: str(stage.num_splits)}),
    )


def prerequisites(
    pipeline: str, stage: Stage, stages: Mapping[str, Stage], workdir: str
) -> tuple[str, ...]:
    """Return the files that make a stage's targets stale when they are newer than its stamps."""
    needed = []
    for need in stage.needs:
        other = stages[need.command]
        if need.kind is NeedKind.ALIGNED:
            needed.append(f"{other.stamps_folder(pipeline)}/%")
        else:
            needed.append(other.stamp(pipeline))
    # The fingerprint of the inputs is in both.
    own = dict.fromkeys((*stage.fingerprints(pipeline), *input_files(pipeline, stage, workdir)))
    return (*needed, *own)


def input_files(pipeline: str, stage: Stage, workdir: str) -> tuple[str, ...]:
    """Return the inputs of a stage whose change make can see, and their fingerprint.

    make reads a line for each split and each of its prerequisites, so that many of both are left to
    the fingerprint.
    """
    fingerprint = stage.inputs_file(pipeline)
    if fingerprint is None:
        return ()
    paths = (seen_from(workdir, path) for path in own_files(stage.inputs, stage.produced))
    plain = tuple(path for path in paths if is_plain(path))
    is_small = len(plain) * stage.num_targets <= MAX_PREREQUISITES
    return (fingerprint, *(plain if is_small else ()))


def all_input_files(plan: Plan, workdir: str) -> list[str]:
    """Return what `input_files` returns for all stages, each once."""
    stages = ((pipeline.name, stage) for pipeline in plan.pipelines for stage in pipeline.stages)
    files = (path for name, stage in stages for path in input_files(name, stage, workdir))
    return list(dict.fromkeys(files))


def find_gone(stage: Stage, workdir: str) -> Gone | None:
    """Return the outputs that make can look for; None if there are none."""
    own: list[str] = []
    shared: list[str] = []
    for output in stage.outputs:
        if is_per_item(output):
            # make knows no items: rvrun stamps their splits.
            continue
        is_shared = stage.num_splits is not None and not is_per_split(output)
        values = {SPLIT_INDEX: MARK, SPLIT_COUNT: str(stage.num_splits)}
        path = seen_from(workdir, fill(output, values))
        if is_plain(path, may_be_glob=True):
            (shared if is_shared else own).append(f"$(wildcard {path.replace(MARK, '$(i)')})")
    return Gone(own=_all_of(own), shared=_all_of(shared)) if own or shared else None


def _all_of(functions: Sequence[str]) -> str:
    """Return a make function that is empty if one of several is."""
    return f"$(and {','.join(functions)})" if len(functions) > 1 else "".join(functions)


def _split_argv(stage: Stage) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a command line after the config: all stages of a pipeline share what comes before."""
    end = stage.argv.index(CONFIG) + 1
    return stage.argv[:end], stage.argv[end:]


def _command_line(argv: tuple[str, ...], words: Mapping[str, str]) -> str:
    """Quote `argv` for a recipe, except for what `words` replaces."""
    return " ".join(words[word] if word in words else for_recipe(word) for word in argv)


def help_lines(plan: Plan) -> list[str]:
    """Return what `make help` prints: the ways to call make, then every goal."""
    rows = [
        ("make -j8", "run all stale targets, 8 at a time"),
        ("make -n", "show what would run"),
        ("make -k", "continue with targets that do not depend on a failed one"),
        ("make clean", "remove stamps, records and logs, so that all targets are stale"),
        ("", ""),
    ]
    for pipeline in plan.pipelines:
        rows.append((f"make {pipeline.name}", Plan((pipeline,)).title.partition(": ")[2]))
        goals = {f"make {pipeline.name}/{stage.command}": stage for stage in pipeline.stages}
        rows += [(goal, describe(stage)) for goal, stage in goals.items()]
    split = [(p.name, stage) for p in plan.pipelines for stage in p.stages if stage.num_splits]
    for name, stage in split[:1]:
        rows.append((f"make {name}/{stage.command}/0", f"split 0 of {stage.num_splits}"))
    width = max(len(goal) for goal, _ in rows)
    return [f"{goal:{width}}  {description}".rstrip() for goal, description in rows]


def describe(stage: Stage) -> str:
    """Describe a stage in a few words: `4 splits, on a GPU, needs train, chip (aligned)`."""
    aligned = {NeedKind.ALIGNED: " (aligned)", NeedKind.ALL: ""}
    parts = [count(stage.num_splits, "split")] if stage.num_splits else []
    if stage.items is not None:
        parts.append(count(stage.items.count, "item"))
    if stage.gpu:
        parts.append("on a GPU")
    if stage.needs:
        needs = ", ".join(need.command + aligned[need.kind] for need in stage.needs)
        parts.append(f"needs {needs}")
    return ", ".join(parts) or "1 target"
